//! Platforms as text: `OS/ARCH[/VARIANT]`, in the normal form that builders and registries use.

/// The normal form of a platform that a user wrote: lower case, the common names of architectures
/// replaced (`aarch64`, `x86_64`), variants that say nothing left out (`arm64/v8`), and `linux`
/// where only an architecture is named. None where it is no platform.
pub fn normalize_platform(text: &str) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('/').collect();
    let well_formed = parts.iter().all(|part| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
    });
    if !well_formed {
        return None;
    }
    let (os, arch, variant) = match parts.as_slice() {
        [arch] if known_architecture(arch) => ("linux", *arch, ""),
        [os, arch] => (*os, *arch, ""),
        [os, arch, variant] => (*os, *arch, *variant),
        _ => return None,
    };
    let os = if os == "macos" { "darwin" } else { os };
    let (arch, variant) = match (arch, variant) {
        ("i386" | "i486" | "i586" | "i686", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    Some(if variant.is_empty() { format!("{os}/{arch}") } else { format!("{os}/{arch}/{variant}") })
}

/// Whether a word alone names an architecture.
fn known_architecture(word: &str) -> bool {
    const KNOWN: [&str; 23] = [
        "386", "aarch64", "amd64", "arm", "arm64", "armel", "armhf", "i386", "i486", "i586",
        "i686", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
        "s390x", "wasm", "x86-64", "x86_64",
    ];
    KNOWN.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::normalize_platform;

    #[test]
    fn platforms_get_their_normal_form() {
        let table = [
            ("linux/arm64", Some("linux/arm64")),
            ("linux/arm64/v8", Some("linux/arm64")),
            ("Linux/AArch64", Some("linux/arm64")),
            ("arm64", Some("linux/arm64")),
            ("x86_64", Some("linux/amd64")),
            ("linux/amd64/v1", Some("linux/amd64")),
            ("linux/amd64/v3", Some("linux/amd64/v3")),
            ("linux/arm", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("armhf", Some("linux/arm/v7")),
            ("linux/i686", Some("linux/386")),
            ("macos/arm64", Some("darwin/arm64")),
            ("windows/amd64", Some("windows/amd64")),
            ("linux", None),
            ("", None),
            ("linux/", None),
            ("a/b/c/d", None),
            ("linux/arm 64", None),
        ];
        for (text, expected) in table {
            assert_eq!(normalize_platform(text).as_deref(), expected, "{text}");
        }
    }
}
