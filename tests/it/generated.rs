//! Dockerfiles made up at random, all of them valid: for tests that hold on every Dockerfile.
//!
//! They are written from a list of numbers, each of which decides one thing. Numbers that are missing
//! count as 0, which always means the plainest thing, so that a failing case shrinks to a small file.

use std::fmt::Write as _;

use proptest::prelude::*;

/// A Dockerfile made up at random.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generated {
    /// Its text.
    pub text: String,
    /// The instructions in it, in order, in capitals, those of `ONBUILD` left aside.
    pub instructions: Vec<&'static str>,
    /// The names of its stages, those without a name left aside.
    pub stages: Vec<String>,
}

/// Dockerfiles whose stages start from `scratch`, from each other, or from one of `images`.
pub fn dockerfiles(images: &'static [&'static str]) -> impl Strategy<Value = Generated> {
    proptest::collection::vec(any::<u16>(), 0..400).prop_map(|choices| generate(&choices, images))
}

/// The Dockerfile that these choices make.
pub fn generate(choices: &[u16], images: &[&str]) -> Generated {
    let mut writer = Writer { choices, images, made: Generated::default(), escape: '\\' };
    writer.file();
    writer.made
}

/// Names of variables; all but the last are declared now and then.
const NAMES: [&str; 6] = ["A", "B", "DIR", "VERSION", "APP_NAME", "UNKNOWN"];
const WORDS: [&str; 8] = ["x", "app", "1.2.3", "a-b_c", "ü", "k=v", "/opt/app", "*"];
const PATHS: [&str; 10] =
    [".", "src", "a/b.txt", "./x", "/abs/file", "*.go", "dir/", "go.* ", "../up", "a//b/../c"];
const DESTINATIONS: [&str; 7] = ["/", ".", "/app/", "/app/x", "rel/", "./y", "/a/../b"];
const COMMANDS: [&str; 9] = [
    "true",
    "make all",
    "echo \"a  b\" 'c'",
    "test -n \"$A\" && echo ${B}",
    "a | b > c",
    "cat <x",
    "echo ${A:-${B:+x}} $$ \\$B",
    "echo ü [x] #no comment",
    "echo 'it''s' `date` $(id -u) ${#A}",
];
const MOUNTS: [&str; 20] = [
    "--mount=type=cache,target=/root/.cache",
    "--mount=type=cache,target=/c,id=$A,sharing=locked,uid=5,mode=0700",
    "--mount=type=cache,dst=rel/cache,sharing=private,readonly",
    "--mount=type=cache,target=/c2,from=@,source=/seed,gid=7",
    "--mount=type=tmpfs,target=/t,size=1m",
    "--mount=type=tmpfs,dst=/t2",
    "--mount=type=secret,id=token",
    "--mount=type=secret,id=token,env=TOKEN,required=true",
    "--mount=type=secret,src=s,target=/run/s,mode=0440,uid=1,gid=2",
    "--mount=type=secret,target=/etc/$A.key,required",
    "--mount=type=ssh",
    "--mount=type=ssh,id=git,target=/ssh.sock,mode=0600,required=false",
    "--mount=target=/ctx",
    "--mount=type=bind,source=a/b,target=/m,rw",
    "--mount=from=@,target=/from",
    "--mount=type=bind,from=@,src=/x/../y,destination=rel,readonly=false",
    "--mount=\"type=bind,source=a b,target=/quoted\"",
    "--mount=type=$KIND,target=/kind",
    "--mount=Type=Bind,SOURCE=$DIR,Target=/cased",
    "--network=none",
];
/// Triggers, the words of instructions first; `@` is a stage or an image.
const TRIGGERS: [&str; 16] = [
    "RUN echo $A",
    "COPY a /b",
    "ENV A=b",
    "WORKDIR /x",
    "USER u",
    "ARG LATER=$A",
    "COPY --from=@ /a /b",
    "ADD --chmod=755 https://example.test/x /x",
    "RUN --mount=type=cache,target=/c make",
    "RUN <<E\necho $A\nE",
    "COPY <<E /e\n$A\nE",
    "CMD [\"a\"]",
    "HEALTHCHECK --retries=2 CMD true",
    "LABEL by=trigger",
    "EXPOSE 1",
    "ENTRYPOINT e $A",
];

struct Writer<'a> {
    choices: &'a [u16],
    images: &'a [&'a str],
    made: Generated,
    escape: char,
}

impl Writer<'_> {
    /// A number below `count`.
    fn below(&mut self, count: usize) -> usize {
        let Some((&first, rest)) = self.choices.split_first() else { return 0 };
        self.choices = rest;
        usize::from(first) % count
    }

    /// Once in `times`.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    fn pick<'b>(&mut self, list: &[&'b str]) -> &'b str {
        list[self.below(list.len())]
    }

    fn put(&mut self, text: &str) {
        self.made.text.push_str(text);
    }

    fn file(&mut self) {
        if self.once_in(5) {
            self.escape = '`';
            self.put("# escape=`\n");
        }
        if self.once_in(5) {
            let check = self.pick(&[
                "skip=WorkdirRelativePath,StageNameCasing",
                "skip=all",
                "experimental=all",
                "skip=UndefinedVar;experimental=InvalidDefinitionDescription",
            ]);
            writeln!(self.made.text, "# check={check}").unwrap();
        }
        for _ in 0..self.below(3) {
            self.described();
            self.start("ARG");
            let name = self.pick(&NAMES[..5]);
            match self.below(8) {
                6 => writeln!(self.made.text, "{name}").unwrap(),
                7 => self.put("TARGETARCH KIND=bind PLATFORM=$BUILDPLATFORM\n"),
                _ => {
                    let value = self.pick(&WORDS[..4]);
                    writeln!(self.made.text, "{name}={value}").unwrap();
                }
            }
        }
        for index in 0..=self.below(4) {
            self.stage(index);
        }
        if self.once_in(12) {
            self.made.text = self.made.text.replace('\n', "\r\n");
        }
    }

    /// A comment that may say what is declared on the next line.
    fn described(&mut self) {
        match self.below(10) {
            8 => self.put("# A says something\n"),
            // Behind another comment it is none of the directives, of which there may be one.
            9 => self.put("# nothing of it\n# check=skip=all\n"),
            _ => {}
        }
    }

    /// The instruction's word, with what may stand before it.
    fn start(&mut self, word: &'static str) {
        match self.below(12) {
            9 => self.put("# a comment\n"),
            10 => self.put("\n  \n"),
            11 => self.put("  "),
            _ => {}
        }
        self.made.instructions.push(word);
        self.word(word);
    }

    fn word(&mut self, word: &str) {
        match self.below(20) {
            17 | 18 => self.put(&word.to_lowercase()),
            19 => {
                self.put(&word[..1]);
                self.put(&word[1..].to_lowercase());
            }
            _ => self.put(word),
        }
        if self.once_in(30) { self.put("\t") } else { self.blank() }
    }

    /// A blank between words, which may go on to the next line.
    fn blank(&mut self) {
        match self.below(48) {
            42 => {
                let escape = self.escape;
                write!(self.made.text, " {escape}\n\n").unwrap();
            }
            39..=41 => self.put("  "),
            43 | 44 => {
                let escape = self.escape;
                write!(self.made.text, " {escape}\n    ").unwrap();
            }
            45..=47 => {
                let escape = self.escape;
                write!(self.made.text, " {escape} \n# note\n\t").unwrap();
            }
            _ => self.put(" "),
        }
    }

    fn end(&mut self) {
        self.put("\n");
    }

    /// The name of a stage that is there, or of an image.
    fn other(&mut self) -> String {
        // A stage knows only those before it; its own name may be the last.
        let before = self.made.stages.len().saturating_sub(1);
        let index = self.below(before + self.images.len());
        let images = self.images.iter().map(|image| (*image).to_owned());
        let known: Vec<String> = self.made.stages[..before].iter().cloned().chain(images).collect();
        known.get(index).cloned().unwrap_or_else(|| "scratch".to_owned())
    }

    fn stage(&mut self, index: usize) {
        self.described();
        self.start("FROM");
        match self.below(16) {
            11 => self.put("--platform=linux/arm64 "),
            12 => self.put("--platform=linux/${TARGETARCH} "),
            13 | 14 => self.put("--platform=$BUILDPLATFORM "),
            15 => self.put("--platform=${TARGETPLATFORM} "),
            _ => {}
        }
        let stages = self.made.stages.len();
        let from = self.below(2 + self.images.len() + stages);
        let base = match from {
            0 => "scratch".to_owned(),
            n if n <= self.images.len() => self.images[n - 1].to_owned(),
            n if n - self.images.len() <= stages => {
                self.made.stages[n - self.images.len() - 1].clone()
            }
            _ => "${NONE:-scratch}".to_owned(),
        };
        self.put(&base);
        if !self.once_in(4) {
            let name = format!("stage{index}");
            let written = if self.once_in(10) { name.to_uppercase() } else { name.clone() };
            let word = if self.once_in(12) { "as" } else { "AS" };
            write!(self.made.text, " {word} {written}").unwrap();
            self.made.stages.push(name);
        }
        self.end();
        for _ in 0..self.below(9) {
            self.instruction();
        }
    }

    fn instruction(&mut self) {
        match self.below(21) {
            0..=3 => self.run(),
            4..=6 => self.copy(),
            7 => self.add(),
            8 | 9 => self.pairs("ENV"),
            10 => self.arg(),
            11 => self.pairs("LABEL"),
            12 => self.simple(
                "WORKDIR",
                &["/srv", "rel/dir", "$DIR/x", "/", "..", "/a/./b/", "\"/a b\"", "${NONE}/x"],
            ),
            13 => self.simple("USER", &["1000", "app:grp", "${A:-root}", "0:0", "\"a b\"", "$NO"]),
            14 => self.simple(
                "EXPOSE",
                &[
                    "80",
                    "8080/udp 80",
                    "${VERSION:-9}-10",
                    "7000-7002/tcp",
                    "53/UDP",
                    "127.0.0.1:80:8080",
                    "9000:9000 8/sctp",
                    "$NOTHING",
                ],
            ),
            15 => self.simple(
                "VOLUME",
                &["/data", "/a $DIR/b", "[\"/x y\"]", "[\"/a\", \"$DIR\"]", "\"/q\" rel"],
            ),
            16 => self.command("CMD"),
            17 => self.command("ENTRYPOINT"),
            18 => self.healthcheck(),
            19 => self.rare(),
            _ => self.onbuild(),
        }
    }

    fn simple(&mut self, word: &'static str, arguments: &[&str]) {
        self.start(word);
        let argument = self.pick(arguments);
        self.put(argument);
        self.end();
    }

    /// A word, with variables, quotes and escapes as they come.
    fn value(&mut self) -> String {
        let word = self.pick(&WORDS);
        let name = self.pick(&NAMES);
        match self.below(24) {
            14 => format!("${{{name}-{word}}}"),
            15 => format!("${{{name}+{word}}}"),
            16 => format!("${{{name}##*.}}"),
            17 => format!("${{{name}%%[/.]*}}"),
            18 => format!("${{{name}/a/b}}"),
            19 => format!("${{{name}/[a-z]/\"$B\"}}"),
            20 => format!("\"{word} {}$A {}\"x\"", self.escape, self.escape),
            21 => format!("${{{name}:-${{B:-'q {word}'}}}}"),
            22 => format!("{word}'$A'\"$B\"$"),
            23 => format!("${{PATH:?needed}}{word}"),
            0..=3 => word.to_owned(),
            4 => format!("${name}"),
            5 => format!("${{{name}}}{word}"),
            6 => format!("${{{name}:-{word}}}"),
            7 => format!("${{{name}:+{word}}}"),
            8 => format!("\"{word} ${name}\""),
            9 => format!("'{word} ${name}'"),
            10 => format!("${{{name}%.*}}"),
            11 => format!("${{{name}#*/}}"),
            12 => format!("${{{name}//a/$A}}"),
            _ => format!("{word}{}${name}", self.escape),
        }
    }

    fn pairs(&mut self, word: &'static str) {
        self.start(word);
        if self.once_in(8) {
            let name = self.pick(&NAMES[..5]);
            let value = self.pick(&WORDS);
            writeln!(self.made.text, "{name} {value} {value}").unwrap();
            return;
        }
        if self.once_in(12) {
            let name =
                self.pick(&["API_KEY", "auth_token", "PUBLIC_KEY", "\"a.b c\"", "'q'", "$A"]);
            let value = self.value();
            writeln!(self.made.text, "{name}={value}").unwrap();
            return;
        }
        for index in 0..=self.below(3) {
            if index > 0 {
                self.blank();
            }
            let name = self.pick(&NAMES[..5]);
            let value = self.value();
            write!(self.made.text, "{name}={value}").unwrap();
        }
        self.end();
    }

    fn arg(&mut self) {
        self.start("ARG");
        for index in 0..=self.below(2) {
            if index > 0 {
                self.blank();
            }
            let name = self.pick(&[
                "A",
                "B",
                "VERSION",
                "TARGETARCH",
                "BUILDPLATFORM",
                "HTTP_PROXY",
                "KIND",
                "TARGETSTAGE",
                "TARGETVARIANT",
                "DB_PASSWORD",
            ]);
            self.put(name);
            if !self.once_in(3) && !name.contains('T') {
                let value = self.value();
                write!(self.made.text, "={value}").unwrap();
            }
        }
        self.end();
    }

    fn run(&mut self) {
        self.start("RUN");
        let mut has_network = false;
        for _ in 0..self.below(3) {
            let other = self.other();
            let mount = self.pick(&MOUNTS).replace('@', &other);
            // A flag that may stand once only.
            let is_network = mount.starts_with("--network");
            if is_network && has_network {
                continue;
            }
            has_network |= is_network;
            self.put(&mount);
            self.blank();
        }
        match self.below(10) {
            0..=4 => {
                let command = self.pick(&COMMANDS);
                self.put(command);
                self.end();
            }
            8 => self.put("<<E\n\nE\n"),
            9 => self.put("<<-\"E\" sh -x\n\t\techo '$A'\n\tE\n"),
            5 => self.put("[\"/bin/x\", \"-c\", \"a $B\"]\n"),
            6 => {
                let shebang = if self.once_in(2) { "#!/usr/bin/env x\n" } else { "" };
                writeln!(self.made.text, "<<EOF\n{shebang}\techo $A\n# kept\nEOF").unwrap();
            }
            _ => self.put("cat <<-one <<'two' > x\n\ta\n\tone\nb $B\ntwo\n"),
        }
    }

    fn file_flags(&mut self) {
        for flags in [
            ["--link", "--link=false", "--link=TRUE"],
            ["--chown=1:2", "--chown=app:$A", "--chown=\"u\""],
            ["--chmod=0644", "--chmod=u+rwX,go=rX", "--chmod=${NONE:-755}"],
            ["--exclude=*.md", "--exclude=**/$A --exclude=b", "--exclude=a/*"],
        ] {
            if self.once_in(6) {
                let flag = self.pick(&flags);
                self.put(flag);
                self.blank();
            }
        }
    }

    fn sources(&mut self) {
        let count = self.below(2) + 1;
        for _ in 0..count {
            let path = self.pick(&PATHS).trim();
            self.put(path);
            self.blank();
        }
        // Several sources need a directory.
        let dest = if count > 1 { "/dest/" } else { self.pick(&DESTINATIONS) };
        self.put(dest);
        self.end();
    }

    fn copy(&mut self) {
        self.start("COPY");
        match self.below(9) {
            6 | 7 => {
                let from = self.other();
                write!(self.made.text, "--from={from} ").unwrap();
            }
            8 if self.made.stages.len() > 1 => self.put("--from=0 "),
            _ => {}
        }
        if self.once_in(8) {
            self.put("--parents ");
        }
        self.file_flags();
        match self.below(8) {
            0..=3 => self.sources(),
            4 => self.put("./a/./b/*.txt src/./c/d x/ /parents/\n"),
            5 => self.put("[\"a b\", \"$A\", \"/d/\"]\n"),
            6 => self.put("<<EOF /inline\n$A 'x' \\$B\nEOF\n"),
            _ => self.put("<<-'a' <<b /inline/\n\t$A\n\ta\n${B:-c}\nb\n"),
        }
    }

    fn add(&mut self) {
        self.start("ADD");
        self.file_flags();
        match self.below(10) {
            2 => self.put("https://example.test/x.tar.gz /dl/\n"),
            3 => self.put("--keep-git-dir=true https://example.test/r.git#main:sub /git\n"),
            4 => self.put("--unpack https://example.test/a/?q=x.tgz https://e.test /un/\n"),
            5 => writeln!(
                self.made.text,
                "--checksum=sha256:{} https://example.test/%20x.bin /sum",
                "3".repeat(64)
            )
            .unwrap(),
            6 => self.put("git@example.test:o/r.git?tag=v1&subdir=$A&submodules=0 a /git/\n"),
            7 => self.put("--unpack=false a.tar https://e.test/${A}.tar /mixed/\n"),
            8 => self.put("https://example.test/r.git?branch=b&keep-git-dir=1&mtime=commit /git\n"),
            _ => self.sources(),
        }
    }

    fn command(&mut self, word: &'static str) {
        self.start(word);
        let command = self.pick(&[
            "[\"a\", \"b $A\"]",
            "run  it",
            "[]",
            "[not json]",
            "exec \"$A\"",
            "[ \"\\u00fc\\n\" ]",
            "[\"a\"] b",
        ]);
        self.put(command);
        self.end();
    }

    fn healthcheck(&mut self) {
        self.start("HEALTHCHECK");
        if self.once_in(4) {
            self.put("NONE\n");
            return;
        }
        for flag in [
            "--interval=30s",
            "--timeout=1m5s",
            "--start-period=500ms",
            "--start-interval=1.5h",
            "--retries=3",
        ] {
            if self.once_in(3) {
                self.put(flag);
                self.blank();
            }
        }
        let command = self.pick(&["CMD true", "CMD [\"a\", \"b\"]", "cmd curl -f $A || exit 1"]);
        self.put(command);
        self.end();
    }

    fn rare(&mut self) {
        match self.below(3) {
            0 => self.simple("STOPSIGNAL", &["SIGTERM", "9", "${A:-SIGINT}", "rtmin+3", "$A"]),
            1 => self.simple("SHELL", &["[\"/bin/bash\", \"-c\"]", "[\"x\"]", "[\"a b\", \"\"]"]),
            _ => self.simple("MAINTAINER", &["someone", "Some One <a@b.test>"]),
        }
    }

    fn onbuild(&mut self) {
        self.start("ONBUILD");
        let other = self.other();
        let inner = self.pick(&TRIGGERS).replace('@', &other);
        self.put(&inner);
        self.end();
    }
}
