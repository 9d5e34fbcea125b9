//! `RUN`

use crate::compile::dispatch::Step;
use crate::compile::error::{CompileError, Fault};
use crate::compile::{naming, ranges};
use crate::dockerfile::ast::{self, Run};
use crate::dockerfile::expand::Variables;
use crate::llb::{
    COMMAND_KEY, Constraints, Device, Env, Exec, FileAction, Mount, Network, Security, State, caps,
};

/// Where a script that stands in the Dockerfile is mounted.
const PIPES: &str = "/dev/pipes/";

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, run: &Run) -> Result<(), CompileError> {
    let mounts = run.resolve_mounts(&mut |word: &str| step.expand(word))?;
    // Any process may read anything.
    step.use_everything();
    let mut exec_mounts = Vec::new();
    let command = step.command(run, &mut exec_mounts)?;
    let args = if run.command.shell { step.with_shell(&command.words) } else { command.words };
    let mut exec = Exec::new(args.iter().cloned());
    for mount in exec_mounts {
        exec = exec.mount(mount);
    }
    if let Some(proxy) = step.shared.proxy {
        exec = exec.proxy(proxy.clone());
    }
    exec = step.add_mounts(exec, &mounts)?;
    exec = exec.security(match run.security {
        ast::Security::Insecure => Security::Insecure,
        ast::Security::Sandbox => Security::Sandbox,
    });
    match run.network {
        ast::Network::Default => {}
        ast::Network::None => exec = exec.network(Network::None),
        ast::Network::Host => exec = exec.network(Network::Host),
    }
    let name = step.run_name(&command.shown, &mounts);
    let mut constraints = Constraints::new()
        .describe(COMMAND_KEY, &step.origin.code)
        .name(name)
        .location(&step.shared.input.source_map, ranges(Some(step.lines())));
    if step.stage.ignore_cache {
        constraints = constraints.ignore_cache();
    }
    (exec, constraints) = step.add_options(exec, constraints, run);
    let text = format!("RUN {} # buildkit", step.history(&args));
    // Each process has the variables of its own in the graph, and the history those of the build.
    let variables = step.stage.state.environment().iter();
    let variables: usize = variables.map(|(name, value)| name.len() + value.len()).sum();
    step.write(variables.saturating_add(text.len()))?;
    step.change(|state| state.run(exec, constraints));
    step.commit_layer(text);
    Ok(())
}

/// What a `RUN` comes to: words for the shell or the system, and what users read.
struct CommandText {
    words: Vec<String>,
    shown: String,
}

impl Step<'_, '_> {
    /// Gives heredocs their meaning: a script of its own, an argument of the shell, or text that
    /// the shell reads itself.
    fn command(&self, run: &Run, mounts: &mut Vec<Mount>) -> Result<CommandText, CompileError> {
        let shown = self.origin.code.clone();
        let command = &run.command;
        if command.heredocs.is_empty() {
            return Ok(CommandText { words: command.words.clone(), shown });
        }
        let [text] = command.words.as_slice() else {
            return Err(Fault::RunCommand(command.words.clone()).into());
        };
        if !command.shell {
            return Err(Fault::RunCommand(command.words.clone()).into());
        }
        let Some(document) = command.sole_heredoc() else {
            let mut script = text.clone();
            for document in &command.heredocs {
                script.push('\n');
                script.push_str(&document.data);
                script.push_str(&document.name);
            }
            return Ok(CommandText { words: vec![script], shown });
        };
        let data = document.content();
        let shown = format!("{shown} ({})", naming::summary(&document.data));
        let windows = self.stage.image.config().os == "windows";
        if windows || !data.starts_with("#!") {
            return Ok(CommandText { words: vec![data], shown });
        }
        let script = crate::llb::path::join([PIPES, document.name.as_str()]);
        let document = State::scratch().file(
            vec![FileAction::make_file(&document.name, 0o755, data)],
            Constraints::named("[internal] preparing inline document"),
        );
        mounts.push(Mount::bind(PIPES, &document).selector("/").readonly());
        Ok(CommandText { words: vec![script], shown })
    }

    fn run_name(&mut self, shown: &str, mounts: &[ast::Mount]) -> String {
        let env = self.stage.state.environment();
        let expander = self.shared.expander.keep_quotes().keep_unset();
        let masked = Masked::new(env, mounts);
        let shown = naming::shown(expander, shown, &masked);
        let platform = self.stage.state.platform_of().cloned();
        self.stage.steps.next(&shown, platform.as_ref(), env)
    }

    /// What the options of the build say of every process, as far as the builder can do it.
    fn add_options(
        &self,
        mut exec: Exec,
        mut constraints: Constraints,
        run: &Run,
    ) -> (Exec, Constraints) {
        let options = &self.shared.input.options;
        let supports = |cap| self.shared.input.request.builder.caps.supports(cap);
        if supports(caps::EXEC_ULIMIT) {
            for limit in &options.ulimits {
                exec = exec.ulimit(limit.clone());
            }
        }
        if supports(caps::EXEC_CDI) {
            for device in &run.devices {
                let optional = !device.required;
                exec = exec.device(Device { name: device.name.clone(), optional });
            }
        }
        for host in &options.hosts {
            exec = exec.host(host.clone());
        }
        if supports(caps::MOUNT_TMPFS_SIZE) && options.shm_size > 0 {
            exec = exec.mount(Mount::memory("/dev/shm", options.shm_size));
        }
        if supports(caps::EXEC_CGROUP_PARENT) && !options.cgroup_parent.is_empty() {
            exec = exec.cgroup_parent(&options.cgroup_parent);
        }
        if supports(caps::EXEC_LINUX_RESOURCES)
            && let Some(resources) = &options.resources
        {
            constraints = constraints.linux_resources(resources.clone());
        }
        (exec, constraints)
    }

    /// The command line as the history shows it, behind the arguments that are in force.
    fn history(&self, args: &[String]) -> String {
        let declared = self.stage.build_args.iter();
        let mut parts = Vec::with_capacity(args.len() + declared.len() + 1);
        if declared.len() > 0 {
            parts.push(format!("|{}", declared.len()));
        }
        let env = self.stage.state.environment();
        for (name, value) in declared {
            let value = env.get(name).or(value).unwrap_or_default();
            parts.push(format!("{name}={value}"));
        }
        parts.extend(args.iter().cloned());
        parts.join(" ")
    }
}

/// An environment in which variables that carry secrets have stars for a value.
struct Masked<'a> {
    env: &'a Env,
    secrets: Vec<&'a str>,
}

impl<'a> Masked<'a> {
    fn new(env: &'a Env, mounts: &'a [ast::Mount]) -> Self {
        let secrets = mounts
            .iter()
            .filter(|mount| mount.kind == ast::MountKind::Secret)
            .filter_map(|mount| mount.env.as_deref())
            .collect();
        Self { env, secrets }
    }
}

impl Variables for Masked<'_> {
    fn value(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        if self.secrets.contains(&name) {
            return Some("****".into());
        }
        self.env.value(name)
    }
}
