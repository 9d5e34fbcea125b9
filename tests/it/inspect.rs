//! What is wrong with an image is told before it leaves: links that lead nowhere and entrypoints
//! for another processor, on every builder.

use crate::{
    bed,
    build::{arguments, builders, program, unique},
    cli::{Place, Ran},
};
use serde_json::Value;

/// The seed's trap: pnpm links the packages of its workspace, and the final stage copies too few.
fn workspace(mark: &str) -> String {
    format!(
        "FROM {base} AS deps\n\
         WORKDIR /app\n\
         RUN mkdir -p packages/bus/node_modules/@j packages/memory packages/sdk \\\n\
         \x20&& ln -s ../../../memory ../../../sdk packages/bus/node_modules/@j/ \\\n\
         \x20&& echo {mark} >packages/bus/mark\n\
         FROM {base}\n\
         WORKDIR /app/packages/bus\n\
         COPY --from=deps /app/packages/bus /app/packages/bus\n\
         COPY --from=deps /app/packages/sdk /app/packages/sdk\n\
         CMD [\"sh\", \"-c\", \"true\"]\n",
        base = bed::base_arm64()
    )
}

fn push(place: &Place, builder: crate::build::Builder, tag: &str, more: &[&str]) -> Ran {
    let head = ["--format", "json", "-t", tag, "--push"];
    place.run(&arguments(builder, &[&head[..], more, &["."]].concat()))
}

/// The warnings with this code, of a success.
fn warnings(ran: &Ran, code: &str) -> Vec<Value> {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let all = ran.json()["warnings"].take();
    let all = all.as_array().expect("a list").iter();
    all.filter(|warning| warning["code"] == code).cloned().collect()
}

#[test]
fn a_workspace_package_that_was_not_copied_is_told_with_the_stage_that_has_it() {
    for builder in builders() {
        let mark = unique();
        let place = Place::new();
        place.write("Dockerfile", &workspace(&mark));
        let tag = format!("{}/inspect/{mark}:v1", bed::registry());
        let found = warnings(&push(&place, builder, &tag, &[]), "LINK_DANGLING");
        let [warning] = &found[..] else { panic!("{builder:?}: {found:?}") };
        let message = warning["message"].as_str().unwrap();
        assert_eq!(
            message,
            "`/app/packages/bus/node_modules/@j/memory` leads to `/app/packages/memory`, which is \
             not in the image",
            "{builder:?}"
        );
        let hint = warning["hint"].as_str().unwrap();
        assert!(
            hint.ends_with("add `COPY --from=deps /app/packages/memory /app/packages/memory`"),
            "{hint}"
        );

        // Where all comes from the cache nothing is looked at again, unless it must be good.
        let again = warnings(&push(&place, builder, &tag, &[]), "LINK_DANGLING");
        assert_eq!(again, [Value::Null; 0], "{builder:?}");
        let strict = format!("{}/inspect/{mark}:strict", bed::registry());
        let ran = push(&place, builder, &strict, &["--strict"]);
        assert_eq!(ran.code, Some(17), "{builder:?} {ran:?}");
        assert_eq!(ran.json()["error"]["code"], "LINK_DANGLING");
        let tags = program(
            "skopeo",
            &[
                "list-tags",
                "--tls-verify=false",
                &format!("docker://{}/inspect/{mark}", bed::registry()),
            ],
        );
        assert!(!tags.contains("strict"), "{builder:?}: it was pushed: {tags}");
    }
}

#[test]
fn an_entrypoint_for_another_processor_is_told() {
    // As much of an executable as a kernel reads before it says no.
    let amd64 =
        [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0".as_slice(), &[0; 64]].concat();
    for builder in builders() {
        let mark = unique();
        let place = Place::new();
        std::fs::write(place.work().join("tool"), &amd64).unwrap();
        place.write("start", &format!("#!/usr/local/bin/tool\n# {mark}\n"));
        place.write(
            "Dockerfile",
            &format!(
                "FROM {}\nCOPY --chmod=755 tool /usr/local/bin/tool\nCOPY --chmod=755 start /start\n\
                 ENTRYPOINT [\"/start\"]\n",
                bed::base_arm64()
            ),
        );
        let tag = format!("{}/inspect/{mark}:v1", bed::registry());
        let found = warnings(&push(&place, builder, &tag, &[]), "ENTRYPOINT_WRONG_MACHINE");
        let [warning] = &found[..] else { panic!("{builder:?}: {found:?}") };
        let message = warning["message"].as_str().unwrap();
        assert!(
            message.starts_with("`/usr/local/bin/tool`, which `/start` wants, is for amd64"),
            "{message}"
        );
    }
}

#[test]
fn several_platforms_are_each_looked_at() {
    let mark = unique();
    let place = Place::new();
    place.write(
        "Dockerfile",
        &format!(
            "FROM {}\nWORKDIR /app\nARG TARGETARCH\nRUN echo {mark} && ln -s gone-$TARGETARCH link\n",
            bed::base_multi()
        ),
    );
    let tag = format!("{}/inspect/{mark}:v1", bed::registry());
    let builder = crate::build::buildkitd();
    let ran = push(&place, builder, &tag, &["--platform", "linux/amd64"]);
    let found = warnings(&ran, "LINK_DANGLING");
    let messages: String = found.iter().map(|warning| warning["message"].to_string()).collect();
    assert!(
        messages.contains("/app/gone-arm64") && messages.contains("(linux/arm64)"),
        "{messages}"
    );
    assert!(
        messages.contains("/app/gone-amd64") && messages.contains("(linux/amd64)"),
        "{messages}"
    );
}
