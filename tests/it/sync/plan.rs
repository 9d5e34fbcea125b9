//! `plan` and `sync --dry-run`: everything is said and nothing is done.

use super::{Project, snapshot};
use crate::command::{run, said};
use std::{
    io::Read as _,
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::{Arc, Mutex},
    thread,
};

/// Records every connection that somebody makes to it, and what came over it.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    /// A TCP address that records.
    fn tcp(&self, name: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = self.0.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                heard.lock().unwrap().push(format!("a connection to {name}"));
                let mut bytes = [0_u8; 64];
                let count = stream.and_then(|mut stream| stream.read(&mut bytes)).unwrap_or(0);
                heard.lock().unwrap().push(format!("{name}: {:?}", &bytes[..count]));
            }
        });
        address
    }

    /// A Unix socket that records.
    fn unix(&self, name: &'static str, path: &std::path::Path) {
        let listener = UnixListener::bind(path).unwrap();
        let heard = self.0.clone();
        thread::spawn(move || {
            for _ in listener.incoming() {
                heard.lock().unwrap().push(format!("a connection to {name}"));
            }
        });
    }

    fn heard(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A project that names, for every place that a deploy speaks to, a recorder.
fn recorded() -> (Project, Recorder) {
    let recorder = Recorder::default();
    let project = Project::new(&[("Dockerfile", "FROM scratch\nCOPY f /f\n"), ("f", "1\n")]);
    let [builder, registry, inngest, sink, cluster] =
        ["builder", "registry", "inngest", "sink", "cluster"].map(|name| recorder.tcp(name));
    let done = project.stranger.join("done");
    let did = |what: &str| format!("echo {what} >> {}", done.display());
    recorder.unix("docker", &project.stranger.join("docker.sock"));
    let config = format!(
        "[build]\nbuilder = \"tcp://{builder}\"\nplatforms = [\"linux/arm64\"]\n\
         args = {{ STAGE = \"{{env.STAGE}}\" }}\n\
         [build.cache]\nfrom = [\"type=registry,ref={registry}/app:cache\"]\n\
         [image]\nname = \"{registry}/app\"\ntags = [\"{{git.sha}}\", \"latest\"]\n\
         [registry.{registry:?}]\nusername = \"u\"\ncommand = [\"sh\", \"-c\", \"{lease}\"]\n\
         [rollout]\ncontext = \"bed\"\nnamespace = \"n\"\nworkload = \"deployment/app\"\ncontainer = \"app\"\n\
         [[verify.http]]\nport = 3111\nexpect = {{ status = 200 }}\n\
         [verify.inngest]\nurl = \"http://{inngest}\"\napp = \"a\"\nserve = {{ port = 3111 }}\n\
         [record]\ncommand = [\"sh\", \"-c\", \"{record}\"]\nhttp = {{ url = \"http://{sink}/\" }}\n\
         [[hook]]\nstage = \"build\"\nwhen = \"before\"\ncommand = [\"sh\", \"-c\", \"{hook}\"]\n",
        lease = did("lease"),
        record = did("record"),
        hook = did("hook"),
    );
    project.write("bk-sync.toml", &config);
    project.write(
        "../.kube/config",
        &format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: bed\n\
             clusters: [{{name: bed, cluster: {{server: \"https://{cluster}\"}}}}]\n\
             users: [{{name: bed, user: {{token: t}}}}]\n\
             contexts: [{{name: bed, context: {{cluster: bed, user: bed}}}}]\n"
        ),
    );
    project.commit("config");
    (project, recorder)
}

#[test]
fn a_plan_touches_nothing_and_no_byte_leaves_the_process() {
    for arguments in [&["plan"][..], &["sync", "--dry-run"], &["plan", "--format", "json"]] {
        let (project, recorder) = recorded();
        let docker = format!("unix://{}", project.stranger.join("docker.sock").display());
        let before = snapshot(project.stranger.path());
        let planned = run(project
            .command(arguments)
            .env("STAGE", "canary-4711")
            .env("DOCKER_HOST", &docker)
            .env("BK_SYNC_REGISTRY_USERNAME", "u")
            .env("BK_SYNC_REGISTRY_PASSWORD", "canary-0815"));
        assert_eq!(planned.code, 0, "{}", planned.stderr);
        assert!(planned.stdout.contains("deployment/app"), "{}", planned.stdout);
        assert!(!planned.stdout.contains("canary"), "{}", planned.stdout);
        assert_eq!(recorder.heard(), Vec::<String>::new(), "{arguments:?}");
        assert_eq!(snapshot(project.stranger.path()), before, "{arguments:?}");
        assert!(!project.stranger.join("done").exists(), "a command was run");
    }
}

/// Every call of every process that a plan starts, as the kernel sees it: nobody is spoken to, nothing is
/// written but the plan itself, and no program is started but git.
#[test]
fn gotcha_dry_run_with_side_effects_none_by_the_kernels_own_account() {
    let (project, recorder) = recorded();
    let trace = project.stranger.join("trace");
    let planned = run(project
        .stranger
        .command(crate::bed::program("strace"))
        .args(["-f", "-s", "65536", "-o"])
        .arg(&trace)
        .args(["-e", "trace=%network,%file,%process,write,writev,pwrite64,pwritev,sendfile,splice"])
        .args([env!("CARGO_BIN_EXE_bk-sync"), "plan", "--format", "json"])
        .current_dir(project.path())
        .env("STAGE", "s")
        .env("DOCKER_HOST", format!("unix://{}", project.stranger.join("docker.sock").display())));
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    let trace = std::fs::read_to_string(&trace).unwrap();
    let calls = |names: &[&str]| -> Vec<&str> {
        let is = |line: &&str| names.iter().any(|name| line.contains(&format!(" {name}(")));
        trace.lines().filter(is).collect()
    };
    assert_eq!(calls(&["connect", "bind", "listen", "sendto", "sendmsg", "sendmmsg"]), [""; 0]);
    let sockets: Vec<_> =
        calls(&["socket"]).into_iter().filter(|line| !line.contains("AF_UNIX")).collect();
    assert_eq!(sockets, [""; 0]);
    let files: Vec<_> = crate::push::secrecy::written(&trace)
        .into_iter()
        .filter(|path| path != "/dev/null" && path != "/dev/tty" && !path.starts_with("/proc/"))
        .collect();
    assert_eq!(files, [""; 0]);
    // No file is open for writing and no socket has another end, so what is written goes to stdout, to
    // stderr, or from one of these processes to another.
    let programs = calls(&["execve"]);
    assert!(programs.len() > 1, "{trace}");
    for line in programs {
        let is_git = line.contains("[\"git\", ") && line.contains("--no-optional-locks");
        assert!(is_git || line.contains("\"plan\""), "{line}");
    }
    assert_eq!(recorder.heard(), Vec::<String>::new());
}

#[test]
fn a_plan_is_the_same_where_there_is_no_network_at_all() {
    let (project, _recorder) = recorded();
    let with = run(project.command(&["plan"]).env("STAGE", "s"));
    let without = project
        .stranger
        .command("unshare")
        .args(["--net", env!("CARGO_BIN_EXE_bk-sync"), "plan"])
        .current_dir(project.path())
        .env("STAGE", "s")
        .output()
        .expect("`unshare` of util-linux starts");
    let without = said(&without);
    assert_eq!((without.code, &without.stdout), (0, &with.stdout), "{}", without.stderr);
}

#[test]
fn a_plan_says_what_would_happen_and_who_chose_each_value() {
    let project = Project::new(&[("Dockerfile", "FROM scratch\nCOPY f /f\n"), ("f", "1\n")]);
    project.write(
        "bk-sync.toml",
        "[build]\nplatforms = [\"linux/arm64\"]\n[image]\nname = \"r.example/app\"\n\
         tags = [\"{git.short}\"]\n[rollout]\nworkload = \"deployment/app\"\nnamespace = \"n\"\n\
         on_verify_failure = \"rollback\"\n[[verify.http]]\nport = 80\n\
         [[hook]]\nstage = \"push\"\nwhen = \"before\"\ncommand = [\"scan\"]\n",
    );
    project.commit("Deploy it");
    let commit = project.git(&["rev-parse", "HEAD"]);
    let short = project.git(&["rev-parse", "--short", "HEAD"]);
    let planned = run(project
        .command(&["plan", "--timeout", "30s", "--target", "app"])
        .env("BK_SYNC_BUILDER", "tcp://b.example:1"));
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    let shown = planned.stdout.replace(&commit, "COMMIT").replace(&short, "SHORT");
    insta::assert_snapshot!(shown, @r#"
    commit COMMIT on trunk: Deploy it
    preflight  look at config, checkout, builder, registry, n/deployment/app and its cluster, and at what the checks need
    build      build Dockerfile for linux/arm64 on tcp://b.example:1
    push       hook: scan
               push r.example/app:SHORT
    rollout    set the image's digest on n/deployment/app, wait up to 30 s, roll back if that fails
    verify     http: GET :80/ of a new pod answers 200
    record     write the receipt to the state directory
               annotate n/deployment/app

    build.builder               tcp://b.example:1  ($BK_SYNC_BUILDER)
    build.context               .  (default)
    build.file                  -  (default)
    build.platforms             ["linux/arm64"]  (bk-sync.toml:2)
    build.target                app  (--target)
    build.base_keys             []  (default)
    build.cache.from            []  (default)
    build.cache.to              []  (default)
    build.cache.deadline        300s  (default)
    image.tags                  ["r.example/app:SHORT"]  (bk-sync.toml:5)
    sign                        -  (default)
    image.dirty                 refuse  (default)
    rollout.workload            deployment/app  (bk-sync.toml:7)
    rollout.namespace           n  (bk-sync.toml:8)
    rollout.on_failure          rollback  (default)
    rollout.on_verify_failure   rollback  (bk-sync.toml:9)
    rollout.timeout             30s  (--timeout)
    verify.http                 GET :80/ of a new pod answers 200  (bk-sync.toml:11)
    hook.before.push            ["scan"]  (bk-sync.toml:13)
    deploy.deadlines.preflight  120s  (default)
    deploy.deadlines.build      3600s  (default)
    deploy.deadlines.push       1800s  (default)
    deploy.deadlines.rollout    1800s  (default)
    deploy.deadlines.verify     600s  (default)
    deploy.deadlines.record     120s  (default)
    deploy.free_disk            2147483648  (default)
    "#);
    let json = project.json(&["plan"], 0);
    let result = &json["result"];
    assert_eq!(result["git"]["commit"], commit.as_str());
    assert_eq!(result["project"], "n/deployment/app");
    let stages: Vec<_> = result["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["stage"].as_str().unwrap())
        .collect();
    assert_eq!(
        stages,
        ["preflight", "build", "push", "push", "rollout", "verify", "record", "record"]
    );
    let chosen = |key: &str| {
        let settings = result["settings"].as_array().unwrap();
        let found = settings.iter().find(|choice| choice["key"] == key);
        found.unwrap_or_else(|| panic!("{key}: {settings:?}"))["origin"].as_str().unwrap()
    };
    assert_eq!(chosen("build.platforms"), "bk-sync.toml:2");
    assert_eq!(chosen("rollout.timeout"), "default");
    assert_eq!(chosen("rollout.on_verify_failure"), "bk-sync.toml:9");
}

#[test]
fn a_deploy_without_a_config_says_how_to_get_one() {
    let project = Project::new(&[("Dockerfile", "FROM scratch\n")]);
    let failed = project.json(&["sync"], 2);
    assert_eq!(failed["error"]["code"], "CONFIG_MISSING");
    assert!(failed["fix"].as_str().unwrap().contains("bk-sync init"));
}

#[test]
fn changes_that_are_not_committed_are_refused_suffixed_or_allowed() {
    let project = Project::new(&[("Dockerfile", "FROM scratch\n")]);
    project.write("bk-sync.toml", "[image]\nname = \"r.example/app\"\ntags = [\"{git.sha}\"]\n");
    project.commit("config");
    project.write("new", "");
    let refused = project.json(&["plan"], 17);
    assert_eq!(refused["error"]["code"], "CHECKOUT_DIRTY");
    let tag =
        |json: &serde_json::Value| json["result"]["build"]["tags"][0].as_str().unwrap().to_owned();
    let suffixed = project.json(&["plan", "--dirty", "suffix"], 0);
    assert!(tag(&suffixed).ends_with("-dirty"));
    assert_eq!(suffixed["result"]["git"]["dirty"], true);
    let allowed = project.json(&["plan", "--dirty", "allow"], 0);
    assert!(!tag(&allowed).ends_with("-dirty"));
}

#[test]
fn flags_of_build_that_a_deploy_has_no_use_for_are_refused() {
    let project = Project::new(&[("Dockerfile", "FROM scratch\n")]);
    project.write("bk-sync.toml", "[image]\nname = \"r.example/app\"\n");
    project.commit("config");
    for flags in [&["-o", "out"][..], &["--load"], &["--iidfile", "i"], &["-f", "-"]] {
        let refused = project.json(&[&["plan"], flags].concat(), 2);
        assert_eq!(refused["error"]["code"], "USAGE", "{flags:?}");
    }
}
