//! File modes as the protocol carries them: bits of Go's `os.FileMode`, not of stat(2).

/// A directory.
pub const DIRECTORY: u32 = 1 << 31;
/// A symbolic link.
pub const SYMLINK: u32 = 1 << 27;
/// A block device or, with [`CHARACTER`], a character device.
pub const DEVICE: u32 = 1 << 26;
/// A named pipe.
pub const FIFO: u32 = 1 << 25;
/// A socket. Never sent: a socket travels as an empty regular file.
pub const SOCKET: u32 = 1 << 24;
/// With [`DEVICE`]: a character device.
pub const CHARACTER: u32 = 1 << 21;
/// Something else than all of these.
pub const IRREGULAR: u32 = 1 << 19;

const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const STICKY: u32 = 1 << 20;
const PERMISSIONS: u32 = 0o777;
const KINDS: u32 = DIRECTORY | SYMLINK | DEVICE | FIFO | SOCKET | CHARACTER | IRREGULAR;

/// Whether data can be asked for: regular files, hard links among them.
pub fn is_regular(mode: u32) -> bool {
    mode & KINDS == 0
}

/// Whether it is a directory.
pub fn is_directory(mode: u32) -> bool {
    mode & DIRECTORY != 0
}

/// The mode to send for an `st_mode`. A socket becomes a regular file.
pub fn from_unix(st_mode: u32) -> u32 {
    let kind = match st_mode & 0o170_000 {
        0o040_000 => DIRECTORY,
        0o120_000 => SYMLINK,
        0o060_000 => DEVICE,
        0o020_000 => DEVICE | CHARACTER,
        0o010_000 => FIFO,
        0o100_000 | 0o140_000 => 0,
        _ => IRREGULAR,
    };
    let mut mode = kind | (st_mode & PERMISSIONS);
    for (unix, go) in [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)] {
        if st_mode & unix != 0 {
            mode |= go;
        }
    }
    mode
}

/// The permission, set-id and sticky bits of a received mode, as chmod(2) takes them.
pub fn to_chmod(mode: u32) -> u32 {
    let mut bits = mode & PERMISSIONS;
    for (unix, go) in [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)] {
        if mode & go != 0 {
            bits |= unix;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::{from_unix, is_regular, to_chmod};

    #[test]
    fn modes_are_those_of_go() {
        for (unix, go) in [
            (0o040_755, 2_147_484_141),
            (0o041_777, 2_148_532_735),
            (0o120_777, 134_218_239),
            (0o104_755, 8_389_101),
            (0o010_644, 33_554_852),
            (0o140_777, 0o777),
            (0o020_600, (1 << 26) | (1 << 21) | 0o600),
        ] {
            assert_eq!(from_unix(unix), go, "{unix:o}");
            assert_eq!(to_chmod(go), unix & 0o7777, "{unix:o}");
        }
        assert!(is_regular(from_unix(0o100_644)) && is_regular(from_unix(0o140_644)));
        assert!(!is_regular(from_unix(0o120_777)));
    }
}
