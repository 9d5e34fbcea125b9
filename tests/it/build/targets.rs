//! `[[image]]`: several images from one file, with stages that they share and images made of others.

use super::{Builder, buildkitd, dockerd, program, unique};
use crate::{bed, cli::Place};
use serde_json::Value;

/// Two images on one stage, whose step gives another result each time that it runs, and a third that is
/// made of both.
fn place(builder: Builder, repository: &str) -> Place {
    let place = Place::new();
    let (base, mark) = (bed::base_arm64(), unique());
    place.write(
        "Dockerfile",
        &format!(
            "FROM {base} AS common\nRUN echo {mark} && cat /proc/sys/kernel/random/uuid >/seen\n\
             FROM common AS api\nARG WHO=nobody\nCOPY a /a\nRUN echo $WHO >/who\n\
             FROM common AS web\nENV KIND=web\nCOPY b /b\n"
        ),
    );
    place.write("a", &mark);
    place.write("b", "b");
    place.write(
        "front/Dockerfile",
        "FROM lib\nCOPY own /own\nCOPY --from=api /a /who /from-api/\nRUN cp /seen /again\n",
    );
    place.write("front/own", "own");
    place.write(
        "bk-sync.toml",
        &format!(
            "[build]\nbuilder = \"{}\"\nplatforms = [\"linux/arm64\"]\n\
             [[image]]\nname = \"{repository}/api\"\ntarget = \"api\"\nargs = {{ WHO = \"api\" }}\n\
             [[image]]\nid = \"library\"\ntarget = \"web\"\n\
             [[image]]\nname = \"{repository}/front\"\ncontext = \"front\"\n\
             contexts = {{ lib = \"target:library\", api = \"target:api\" }}\n\
             [[image]]\nname = \"{repository}/web\"\ntarget = \"web\"\n",
            builder.address
        ),
    );
    place
}

/// The file of an image in the registry.
fn file(image: &str, path: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("image.tar");
    program("crane", &["export", "--platform", "linux/arm64", image, archive.to_str().unwrap()]);
    let mut archive = tar::Archive::new(std::fs::File::open(archive).unwrap());
    let mut found = None;
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().ends_with(path) {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            found = Some(text);
        }
    }
    found.unwrap_or_else(|| panic!("`{image}` has no `{path}`"))
}

#[test]
fn several_images_share_their_stages_and_are_made_of_one_another() {
    for builder in [buildkitd(), dockerd()] {
        let repository = format!("{}/targets-{}", bed::registry(), unique());
        let place = place(builder, &repository);
        let ran = place.run(&["build", "--push", "-q", "--provenance=false", "--format", "json"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let images = ran.json()["result"]["images"].take();
        let ids: Vec<&String> = images.as_object().unwrap().keys().collect();
        assert_eq!(ids, ["api", "front", "web"], "the library has no name, so it is only used");

        // The step of the shared stage drew one number for all of them.
        let name = |id: &str| images[id]["image"]["tags"][0].as_str().unwrap().to_owned();
        let seen = file(&name("api"), "seen");
        for (id, path) in [("web", "seen"), ("front", "seen"), ("front", "again")] {
            assert_eq!(file(&name(id), path), seen, "{id} {path}");
        }
        assert_eq!(file(&name("front"), "own"), "own");
        assert_eq!(file(&name("front"), "from-api/who"), "api\n", "with the arguments of its own");
        // What an image is made of gives it its config too.
        let reference = format!("docker://{}", name("front"));
        let inspect = ["inspect", "--config", "--tls-verify=false", "--override-arch", "arm64"];
        let config: Value =
            serde_json::from_str(&program("skopeo", &[&inspect[..], &[&reference]].concat()))
                .unwrap();
        let variables = config["config"]["Env"].as_array().unwrap();
        assert!(variables.contains(&Value::from("KIND=web")), "{variables:?}");

        // Again, and one of them alone: everything is cached, and comes out the same.
        let ran = place.run(&[
            "build",
            "--push",
            "-q",
            "--provenance=false",
            "--image",
            "front",
            "--format",
            "json",
        ]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let again = ran.json()["result"].take();
        assert_eq!(again["image"]["digest"], images["front"]["image"]["digest"]);
        let lines = place.run(&["build", "--push", "-q", "--provenance=false"]).stdout;
        assert_eq!(lines.lines().count(), 3, "{lines}");
    }
}

#[test]
fn one_lock_holds_the_bases_of_all_images_and_several_builders_make_each_of_them() {
    let repository = format!("{}/targets-{}", bed::registry(), unique());
    let place = Place::new();
    place.write("Dockerfile", &format!("FROM {} AS api\nCOPY a /a\n", bed::base_multi()));
    place.write("front/Dockerfile", &format!("FROM {}\nCOPY a /a\n", bed::base_arm64()));
    let mark = unique();
    place.write("a", &mark);
    place.write("front/a", &mark);
    place.write(
        "bk-sync.toml",
        &format!(
            "[[image]]\nname = \"{repository}/api\"\nplatforms = [\"linux/arm64\", \"linux/amd64\"]\n\
             [[image]]\nname = \"{repository}/front\"\ncontext = \"front\"\nplatforms = [\"linux/arm64\"]\n"
        ),
    );
    let list = format!("linux/arm64={},linux/amd64={}", buildkitd().address, dockerd().address);
    let builders = ["--builder", list.as_str()];
    let ran = place.run(&[&builders[..], &["lock", "-q", "--format", "json"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let images = ran.json()["result"]["images"].take();
    for base in [bed::base_multi(), bed::base_arm64()] {
        let digest = images[base].as_str().unwrap_or_default();
        assert!(digest.starts_with("sha256:"), "{base}: {images}");
    }
    let arguments = ["build", "--reproducible", "--push", "-q", "--format", "json"];
    let ran = place.run(&[&builders[..], &arguments].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let images = ran.json()["result"]["images"].take();
    let platforms = |id: &str| {
        let manifests = images[id]["image"]["manifests"].as_array().unwrap();
        manifests.iter().map(|one| one["platform"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(platforms("api"), ["linux/arm64", "linux/amd64"]);
    assert_eq!(platforms("front"), ["linux/arm64"]);
    assert_eq!(file(&format!("{repository}/api"), "a"), mark);
    assert_eq!(file(&format!("{repository}/front"), "a"), mark);
}

#[test]
fn what_asks_a_builder_something_asks_the_first_of_a_list() {
    let place = Place::new();
    place.write("Dockerfile", &format!("FROM {}\nCOPY a /a\n", bed::base_multi()));
    place.write("a", "a");
    let (here, nowhere) = (buildkitd().address, "unix:///nowhere/buildkitd.sock");
    for command in ["lock", "llb", "check"] {
        let code = |list: &str| {
            let ran = place.run(&["--builder", list, "--format", "json", command]);
            if ran.code != Some(0) {
                assert_eq!(ran.json()["error"]["code"], "BUILDER_UNREACHABLE", "{command} {ran:?}");
            }
            ran.code
        };
        assert_eq!(
            code(&format!("linux/arm64={here},linux/amd64={nowhere}")),
            Some(0),
            "{command}"
        );
        drop(std::fs::remove_file(place.work().join("bk-sync.lock")));
        assert_eq!(
            code(&format!("linux/amd64={nowhere},linux/arm64={here}")),
            Some(10),
            "{command}"
        );
    }
}

#[test]
fn what_cannot_hold_for_several_images_is_refused_and_named() {
    let place = place(buildkitd(), &format!("{}/targets-{}", bed::registry(), unique()));
    let refused = |more: &[&str]| -> (String, String) {
        let ran = place.run(&[more, &["--format", "json", "-q"]].concat());
        assert_eq!(ran.code, Some(2), "{more:?} {ran:?}");
        let json = ran.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&json["error"]["message"]), text(&json["fix"]))
    };
    for (more, message, fix) in [
        (&["build", "-t", "a:1"][..], "`--tag` cannot hold for several images", "--image ID"),
        (&["build", "--iidfile", "f"], "`--iidfile` cannot hold for several images", "--image ID"),
        (
            &["build", "--image", "front", "--image", "apo"],
            "no `[[image]]` has the id `apo`",
            "api",
        ),
        (&["sync"], "bk-sync.toml has 3 images, and this takes one", "`--image`"),
        (
            &["build", "--image", "front", "--frontend", "daemon"],
            "a frontend on the builder does not know what `api` makes",
            "--frontend native",
        ),
        (
            &["build", "--image", "api", "--build-context", "x=target:none"],
            "the context `x` is the image `none`, which nobody builds here",
            "[[image]]",
        ),
    ] {
        let (told, mend) = refused(more);
        assert_eq!(told, message, "{more:?}");
        assert!(mend.contains(fix), "{more:?}: {mend}");
    }
    place.write(
        "bk-sync.toml",
        "[[image]]\nid = \"a\"\ncontexts = { x = \"target:b\" }\n\
         [[image]]\nid = \"b\"\ncontexts = { x = \"target:a\" }\n",
    );
    let (told, _) = refused(&["build"]);
    assert_eq!(told, "an image is made of itself: `a` → `b` → `a`");
}
