//! Images that the cases start from: built by us, so that their configs hold what the bed's images lack.

use std::sync::OnceLock;

use crate::bed;
use crate::build::buildkitd;
use crate::cli::Place;

/// Their names in the cases, and what they are made of.
const IMAGES: [(&str, &str); 2] = [
    (
        "%TRIGGERS%",
        "FROM %BASE%
ARG OF_THE_BASE=1
ONBUILD ARG SERVICE=none
ONBUILD ENV SERVICE=$SERVICE
ONBUILD WORKDIR rel/$SERVICE
ONBUILD COPY --link package.json a*/ ./
ONBUILD RUN --mount=type=cache,target=/c <<E
make $SERVICE
E
ONBUILD COPY --from=assets /out /in
ONBUILD CMD run $SERVICE
",
    ),
    (
        "%CONFIGURED%",
        "FROM %BASE%
ENV A=of-the-base B=\"two words\"
USER 12:34
WORKDIR /home/a
SHELL [\"/bin/busybox\", \"sh\", \"-c\"]
LABEL a=b c=\"d e\"
HEALTHCHECK --interval=5s CMD true
STOPSIGNAL SIGUSR1
VOLUME /v
EXPOSE 80 443/udp
ENTRYPOINT [\"/e\"]
CMD [\"c\"]
MAINTAINER somebody
",
    ),
];

/// The names with which the cases' names are replaced; the first call builds the images.
pub fn names() -> &'static [(&'static str, String)] {
    static NAMES: OnceLock<Vec<(&'static str, String)>> = OnceLock::new();
    NAMES.get_or_init(|| {
        IMAGES
            .iter()
            .map(|(placeholder, dockerfile)| {
                let kind = placeholder.trim_matches('%').to_lowercase();
                let name = format!("{}/differential/{kind}:1", bed::registry());
                build(&name, &dockerfile.replace("%BASE%", bed::base_multi()));
                (*placeholder, name)
            })
            .collect()
    })
}

fn build(name: &str, dockerfile: &str) {
    let place = Place::new();
    place.write("Dockerfile", dockerfile);
    let mut arguments = vec!["--builder", buildkitd().address, "build", "--provenance=false"];
    arguments.extend(["--platform", "linux/amd64,linux/arm64", "-t", name, "--push", "."]);
    let ran = place.run(&arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
