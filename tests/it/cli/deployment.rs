//! A deployment set up from an empty folder, as the README says.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use simulator::{
    Options, Simulator,
    alipay::{AlipayApp, AppOptions, Mode},
    wechat::{MerchantOptions, WechatApp, WechatMerchant},
};
use tempfile::TempDir;

use crate::trip::{
    harness::{SOON, free_addr},
    shop::Shop,
};

/// A folder, the variables every command in it sees, and the simulated wallets outside.
pub struct Deployment {
    folder: TempDir,
    pub variables: BTreeMap<String, String>,
    pub sim: Simulator,
    /// What every command printed, on both streams.
    printed: Mutex<String>,
    /// What must be in no output: the contents of the files that were handed in.
    secrets: Vec<String>,
}

/// What a command came back with.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The merchant of a deployment, at the wallets and on the wire.
pub struct Enrolled {
    pub shop: Shop,
    pub wechat: WechatMerchant,
    pub wechat_app: WechatApp,
    pub alipay_app: AlipayApp,
}

impl Deployment {
    /// An empty folder. Nothing is set but where wallets may tell us: plain http on loopback.
    pub async fn empty() -> Self {
        let sim = Simulator::start(Options { schedule_scale: 0.01, ..Options::default() }).await.unwrap();
        let folder = TempDir::new().unwrap();
        Self { folder, variables: BTreeMap::new(), sim, printed: Mutex::default(), secrets: Vec::new() }
    }

    pub fn set(&mut self, variable: &str, value: impl Into<String>) {
        self.variables.insert(variable.to_owned(), value.into());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that an argument will name; its content is secret from now on.
    pub fn secret_file(&mut self, name: &str, text: &str) {
        fs::write(self.path(name), format!("{text}\n")).unwrap();
        self.secret(text);
    }

    /// As [`Deployment::secret_file`], for what is handed in by stdin.
    pub fn is_secret(&mut self, text: &str) {
        self.secret(text);
    }

    pub fn file(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Of a key in armour, a line from its middle gives it away.
    fn secret(&mut self, text: &str) {
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("-----") && !line.is_empty()).collect();
        self.secrets.push(lines[lines.len() / 2].to_owned());
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_prepay"));
        command.args(args).env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(&self.variables);
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, args: &[&str]) -> Done {
        self.run_with_input(args, "").await
    }

    /// Runs a command that reads stdin.
    pub async fn run_with_input(&self, args: &[&str], input: &str) -> Done {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = input.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            // A command that does not read its input has closed it: that is no failure.
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
            child.wait_with_output().unwrap()
        });
        let output = output.await.unwrap();
        let done = Done {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        self.printed.lock().unwrap().push_str(&format!("$ {}\n{}{}", args.join(" "), done.out, done.err));
        done
    }

    /// Runs a command that must succeed without a word on stderr.
    pub async fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args).await;
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{args:?}: {done:?}");
        done.out
    }

    /// Runs a command that must succeed as one who sits at a terminal sees it, control sequences included.
    pub async fn on_terminal(&self, args: &[&str]) -> String {
        let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
        let line: Vec<String> = [env!("CARGO_BIN_EXE_prepay")].iter().chain(args).map(|word| quoted(word)).collect();
        let mut command = self.command(&[]);
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--return", "--flush", "--command", &line.join(" "), "/dev/null"]);
        terminal.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        terminal.env("TERM", "xterm").current_dir(self.folder.path()).stdin(Stdio::null());
        command = terminal;
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let seen = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {seen}");
        seen
    }

    /// Runs a command that must fail, and gives the one line that says why.
    pub async fn fails(&self, args: &[&str]) -> String {
        let done = self.run(args).await;
        assert_eq!(done.code, 1, "{args:?}: {done:?}");
        assert_eq!(done.err.lines().count(), 1, "{args:?}: {done:?}");
        done.err
    }

    /// Nothing that was handed in as a file was ever printed.
    pub fn assert_no_secret_printed(&self) {
        let printed = self.printed.lock().unwrap();
        for secret in &self.secrets {
            assert!(!printed.contains(secret), "a secret was printed:\n{printed}");
        }
    }

    /// What was handed in and must show up nowhere.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    pub fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    /// Master keys, tables and the deployment's own keys.
    pub async fn set_up(&mut self) {
        self.ok(&["key", "master", "--out", "front.key"]).await;
        self.ok(&["key", "master", "--out", "back.key"]).await;
        for name in ["front.key", "back.key"] {
            let text = fs::read_to_string(self.path(name)).unwrap();
            self.secret(text.split_once(':').unwrap().1.trim());
        }
        self.set("PREPAY_KEYS__FRONT_FILE", "front.key");
        self.set("PREPAY_KEYS__BACK_FILE", "back.key");
        self.ok(&["migrate"]).await;
        self.ok(&["key", "create", "payinfo"]).await;
        self.ok(&["key", "create", "code-hash"]).await;
    }

    /// A merchant with an account and a mini-program at each wallet.
    pub async fn enrol(&mut self) -> Enrolled {
        self.ok(&["merchant", "add", "C1", "--name", "测试商户"]).await;
        let key = self.ok(&["merchant", "key", "add", "C1", "--hmac"]).await;
        let shop = Shop::new("C1", &field(&key, "key id"), &field(&key, "secret"));
        let (wechat, wechat_app) = self.enrol_wechat().await;
        let alipay_app = self.enrol_alipay("C1", AppOptions::default()).await;
        Enrolled { shop, wechat, wechat_app, alipay_app }
    }

    async fn enrol_wechat(&mut self) -> (WechatMerchant, WechatApp) {
        let merchant = self.sim.wechat().new_merchant(MerchantOptions::default()).unwrap();
        let app = self.sim.wechat().new_app(&merchant.mchid);
        self.secret_file("apiclient_key.pem", &merchant.private_key_pem);
        self.secret_file("app.secret", &app.app_secret);
        self.file("pub_key.pem", &merchant.public_key_pem);
        let (base, backup) = (self.sim.base_url(), self.sim.backup_url());
        let args = [
            "channel",
            "add-wechat",
            "C1",
            "--mchid",
            &merchant.mchid,
            "--serial-no",
            &merchant.serial_no,
            "--private-key-file",
            "apiclient_key.pem",
            "--apiv3-key-file",
            "-",
            "--public-key-id",
            &merchant.public_key_id,
            "--public-key-file",
            "pub_key.pem",
            "--base-url",
            &base,
            "--backup-url",
            &backup,
        ];
        self.secret(&merchant.apiv3_key);
        let done = self.run_with_input(&args, &merchant.apiv3_key).await;
        assert_eq!(done.code, 0, "{done:?}");
        let channel = field(&done.out, "channel account");
        let added = self
            .ok(&[
                "mini-program",
                "add",
                "C1",
                "--channel",
                &channel,
                "--app-id",
                &app.appid,
                "--path",
                "pages/pay/index",
                "--original-id",
                "gh_0123456789ab",
                "--app-secret-file",
                "app.secret",
            ])
            .await;
        assert!(added.contains("weixin://dl/business/?appid="), "{added}");
        (merchant, app)
    }

    /// An account and a mini-program at Alipay for a merchant, signed with keys or certificates.
    pub async fn enrol_alipay(&mut self, customer_no: &str, options: AppOptions) -> AlipayApp {
        let app = self.sim.alipay().new_app(options);
        let named = |kind: &str| format!("{customer_no}-alipay-{kind}");
        let key = named("app_key.pem");
        self.secret_file(&key, &app.app_private_key_pem);
        let public_side = match app.mode {
            Mode::PublicKey => vec![("--alipay-public-key-file", "public.txt", app.alipay_public_key.as_str())],
            Mode::Certificate => vec![
                ("--app-cert-file", "app.crt", app.app_cert_pem.as_deref().unwrap()),
                ("--alipay-cert-file", "alipay.crt", app.alipay_cert_pem.as_deref().unwrap()),
                ("--root-cert-file", "root.crt", app.alipay_root_cert_pem.as_deref().unwrap()),
            ],
        };
        let gateway = format!("{}/gateway.do", self.sim.base_url());
        let mut args: Vec<String> = ["channel", "add-alipay", customer_no, "--app-id", &app.app_id]
            .into_iter()
            .chain(["--private-key-file", &key, "--seller-id", &app.seller_id, "--gateway-url", &gateway])
            .map(str::to_owned)
            .collect();
        for (option, kind, text) in public_side {
            self.file(&named(kind), text);
            args.extend([option.to_owned(), named(kind)]);
        }
        let added = self.ok(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let channel = field(&added, "channel account");
        self.ok(&[
            "mini-program",
            "add",
            customer_no,
            "--channel",
            &channel,
            "--app-id",
            &app.app_id,
            "--path",
            "pages/pay/index",
            "--exchange",
            "calling-app",
        ])
        .await;
        app
    }

    /// Starts a role with addresses of its own; `more` goes over the deployment's variables.
    pub fn start(&self, role: &'static str, public: Option<SocketAddr>, more: &[(&str, &str)]) -> Process {
        let operations = free_addr();
        let log = self.path(&format!("{role}-{}.log", operations.port()));
        let mut command = self.command(&[role]);
        command.env("PREPAY_OPERATIONS__LISTEN", operations.to_string()).envs(more.iter().copied());
        if let Some(public) = public {
            command.env("PREPAY_FRONT__LISTEN", public.to_string());
        }
        command.stdout(File::create(log.with_extension("out")).unwrap()).stderr(File::create(&log).unwrap());
        Process { role, operations, log, child: command.spawn().unwrap() }
    }

    pub async fn stop(self) {
        self.sim.shutdown().await;
    }
}

/// `name: value` of a command's output.
pub fn field(out: &str, name: &str) -> String {
    let found = out.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {out}")).to_owned()
}

/// A role at work. Dropped, it is killed.
pub struct Process {
    role: &'static str,
    operations: SocketAddr,
    log: PathBuf,
    child: Child,
}

impl Process {
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.operations)
    }

    pub async fn until_ready(&mut self) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/readyz", self.operations);
        let deadline = Instant::now() + SOON;
        loop {
            if client.get(&url).send().await.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status}: {}", self.role, self.logged());
            }
            assert!(Instant::now() < deadline, "{} is not ready: {}", self.role, self.logged());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Asks it to leave and waits until it has. Its exit code.
    pub async fn terminate(&mut self) -> i32 {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
        self.ended().await
    }

    /// Kills it without a word.
    pub async fn kill(&mut self) {
        self.child.kill().unwrap();
        self.ended().await;
    }

    async fn ended(&mut self) -> i32 {
        // A process gives what it is at 25 s, and its consumers 30 s more.
        let deadline = Instant::now() + 3 * SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "{} does not end: {}", self.role, self.logged());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What its operations listener answers with.
    pub async fn metrics(&self) -> String {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("http://{}/metrics", self.operations)).send().await.unwrap();
        answer.text().await.unwrap()
    }

    pub fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
