//! Mini-programs: where a merchant's orders are paid.

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::{
    channel::PublicKeyArgs,
    desk::{Desk, yes_no},
    input::{Inputs, Source},
    names, print,
};
use crate::{
    config::Settings,
    domain::{
        account::MiniProgram,
        id::{AccountId, AppId, CustomerNo, MiniProgramId},
        wallet::Wallet,
    },
    enrol::MiniProgramParts,
    gateway::{
        alipay::{CodeExchange, link::Target},
        open,
        wechat::plain_scheme,
    },
    keys::{Back, Place},
    store::MiniProgramRow,
};

/// As long as a real one.
const SAMPLE_PAY_INFO: &str = "v1.k1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA";

#[derive(Debug, Subcommand)]
pub enum MiniProgramCommand {
    /// Enrol a mini-program
    Add(Box<AddArgs>),
    /// List the mini-programs
    List,
    /// Make links into a mini-program again
    Enable {
        #[arg(value_parser = names::mini_program_id)]
        id: MiniProgramId,
    },
    /// Make no further links into a mini-program; its open orders cannot be paid any more
    Disable {
        #[arg(value_parser = names::mini_program_id)]
        id: MiniProgramId,
    },
    /// Change how a mini-program's codes are exchanged
    SetSecret {
        #[arg(value_parser = names::mini_program_id)]
        id: MiniProgramId,
        #[command(flatten)]
        secret: SecretArgs,
    },
}

#[derive(Debug, Args)]
pub struct AddArgs {
    /// The merchant
    #[arg(value_parser = names::customer_no)]
    customer_no: CustomerNo,
    /// The channel account it pays through: its number in `prepay channel list`
    #[arg(long, value_name = "ID", value_parser = names::account_id)]
    channel: AccountId,
    /// Its appid (WeChat: wx…)
    #[arg(long, value_parser = names::app_id)]
    app_id: AppId,
    /// The page that pays, without a leading slash: pages/pay/index
    #[arg(long)]
    path: String,
    /// WeChat's gh_…, told to merchants with the links
    #[arg(long)]
    original_id: Option<String>,
    /// What the page receives; {payInfo} and {url} are replaced
    #[arg(long, value_name = "QUERY", default_value = MiniProgram::DEFAULT_QUERY_TEMPLATE)]
    query_template: String,
    /// WeChat: which version the link opens: release, trial or develop
    #[arg(long, default_value = "release")]
    env_version: String,
    #[command(flatten)]
    secret: SecretArgs,
}

/// How login codes become payers. Without any of it, phones send identifyId.
#[derive(Debug, Args)]
pub struct SecretArgs {
    /// WeChat: the AppSecret; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "exchange")]
    app_secret_file: Option<Source>,
    /// Alipay: as whom codes are exchanged
    #[arg(long, value_enum)]
    exchange: Option<Exchange>,
    /// own-key: the mini-program's private key; - is stdin
    #[arg(long, value_name = "FILE", requires = "exchange")]
    private_key_file: Option<Source>,
    #[command(flatten)]
    public_keys: PublicKeyArgs,
    /// app-auth-token: the mini-program's authorisation of the account's third-party application; - is stdin
    #[arg(long, value_name = "FILE", requires = "exchange")]
    app_auth_token_file: Option<Source>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Exchange {
    /// The mini-program is the account's calling application
    CallingApp,
    /// The mini-program has its own key pair
    OwnKey,
    /// The account's third-party application is authorised by the mini-program
    AppAuthToken,
    /// Codes are not taken, only identifyId
    Never,
}

pub async fn run(desk: &Desk, command: MiniProgramCommand) -> anyhow::Result<()> {
    match command {
        MiniProgramCommand::Add(args) => add(desk, *args).await,
        MiniProgramCommand::List => list(desk).await,
        MiniProgramCommand::Enable { id } => enable(desk, id, true).await,
        MiniProgramCommand::Disable { id } => enable(desk, id, false).await,
        MiniProgramCommand::SetSecret { id, secret } => set_secret(desk, id, &secret).await,
    }
}

async fn add(desk: &Desk, args: AddArgs) -> anyhow::Result<()> {
    let merchant = desk.merchant(&args.customer_no).await?.id;
    let account = desk.account(args.channel).await?.account;
    if account.merchant != merchant {
        bail!("channel account {} is not one of merchant {}", account.id, args.customer_no);
    }
    let program = MiniProgram {
        id: MiniProgramId(0),
        merchant,
        account: account.id,
        wallet: account.wallet,
        app_id: args.app_id,
        original_id: args.original_id,
        path: args.path,
        query_template: args.query_template,
        env_version: args.env_version,
        takes_code: false,
    };
    if !program.query_template.contains("{payInfo}") {
        bail!("--query-template must hold {{payInfo}}");
    }
    let sample = sample_link(&program, &desk.settings)?;
    let secrets = args.secret.read(account.wallet)?;
    if secrets.is_some() {
        desk.needs_back_key()?;
    }
    check_secret(desk, &program, secrets.as_ref()).await?;
    let parts = MiniProgramParts {
        account: account.id,
        app_id: program.app_id,
        original_id: program.original_id,
        path: program.path,
        query_template: Some(program.query_template),
        env_version: Some(program.env_version),
        secrets,
    };
    let id = desk.enroller().mini_program(parts).await?;
    print::line(format_args!("mini-program: {id}"))?;
    for line in sample {
        print::line(line)?;
    }
    Ok(())
}

/// What a link of this mini-program looks like, with a payInfo that is good for nothing. Errors: no link could be made.
pub fn sample_link(program: &MiniProgram, settings: &Settings) -> anyhow::Result<Vec<String>> {
    // Unset, it is a setting that `doctor` names; the mini-program can be enrolled without it.
    let base = settings.public_url().unwrap_or_else(|_| "https://front.public_url.is.not.set".to_owned());
    let url = format!("{base}/pay");
    let (query, link) = match program.wallet {
        Wallet::WechatPay => {
            let made = plain_scheme(program, SAMPLE_PAY_INFO, &url).context("no link could be made")?;
            (made.query, made.scheme)
        }
        Wallet::Alipay => {
            if program.path.is_empty() || program.path.starts_with('/') || program.path.contains(['?', '#', '&']) {
                bail!("no link could be made: the path must be a page without a leading slash and without a query");
            }
            let query = program.query_template.replace("{payInfo}", SAMPLE_PAY_INFO).replace("{url}", &url);
            let app_id = program.app_id.as_str();
            let target = Target { app_id, page: Some(&program.path), page_query: None, query: Some(&query) };
            let scheme = target.scheme();
            (query, scheme)
        }
    };
    Ok(vec![
        format!("a link: {link}"),
        format!("the page {} receives: {query}", program.path),
        format!("and posts {{payInfo, code}} to: {url}"),
    ])
}

impl SecretArgs {
    /// The sealed part as JSON. Errors: an argument of the other wallet, or one that is missing.
    fn read(&self, wallet: Wallet) -> anyhow::Result<Option<SecretString>> {
        let mut inputs = Inputs::default();
        match (wallet, &self.app_secret_file, self.exchange) {
            (Wallet::WechatPay, _, Some(_)) => bail!("--exchange is for mini-programs of Alipay"),
            (Wallet::Alipay, Some(_), _) => bail!("--app-secret-file is for mini-programs of WeChat"),
            (_, None, None) => Ok(None),
            (Wallet::WechatPay, Some(source), None) => {
                let secret = inputs.secret("--app-secret-file", source)?;
                Ok(Some(json!({ "app_secret": secret.expose_secret() }).to_string().into()))
            }
            (Wallet::Alipay, None, Some(exchange)) => {
                let exchange = self.exchange(exchange, &mut inputs)?;
                Ok(Some(serde_json::to_string(&exchange)?.into()))
            }
        }
    }

    fn exchange(&self, exchange: Exchange, inputs: &mut Inputs) -> anyhow::Result<CodeExchange> {
        Ok(match exchange {
            Exchange::CallingApp => CodeExchange::CallingApp,
            Exchange::Never => CodeExchange::Never,
            Exchange::OwnKey => {
                let source = self.private_key_file.as_ref().context("--exchange own-key needs --private-key-file")?;
                let (signing, public_keys) = self.public_keys.required(inputs)?;
                let private_key = inputs.secret("--private-key-file", source)?.expose_secret().to_owned();
                CodeExchange::OwnKey { private_key, signing, public_keys }
            }
            Exchange::AppAuthToken => {
                let source = self.app_auth_token_file.as_ref();
                let source = source.context("--exchange app-auth-token needs --app-auth-token-file")?;
                let token = inputs.secret("--app-auth-token-file", source)?;
                CodeExchange::AppAuthToken { app_auth_token: token.expose_secret().to_owned() }
            }
        })
    }
}

/// Whether the account's gateway would take the mini-program, before anything is written.
async fn check_secret(desk: &Desk, program: &MiniProgram, secrets: Option<&SecretString>) -> anyhow::Result<()> {
    let Some(secrets) = secrets else { return Ok(()) };
    let account = desk.account(program.account).await?;
    let sealed =
        account.secrets.as_ref().with_context(|| format!("channel account {} has no secrets", program.account))?;
    let row = program.account.to_string();
    let place = Place { table: "channel_accounts", column: "secrets", row: &row };
    let opened = desk.vault.open_text(place, sealed)?;
    let http = crate::gateway::http::client(&desk.settings.http_settings())?;
    let app = open::OpenApp { app_id: program.app_id.clone(), secrets: Some(secrets.clone()) };
    open::gateway(program.wallet, &account.settings, &account.public_keys, &opened, vec![app], http)
        .map_err(anyhow::Error::msg)?;
    Ok(())
}

async fn list(desk: &Desk) -> anyhow::Result<()> {
    let customer_no = desk.customer_nos().await?;
    let rows = desk.store.mini_programs().await?.into_iter().map(|MiniProgramRow { program, enabled, .. }| {
        [
            program.id.to_string(),
            customer_no(program.merchant),
            program.wallet.to_string(),
            program.app_id.to_string(),
            program.account.to_string(),
            program.path,
            if program.takes_code { "code or identifyId" } else { "identifyId" }.to_owned(),
            yes_no(enabled),
        ]
    });
    let heading = ["ID", "CUSTOMER_NO", "WALLET", "APP_ID", "CHANNEL", "PATH", "TAKES", "ENABLED"];
    Ok(print::table(heading, &rows.collect::<Vec<_>>())?)
}

async fn mini_program(desk: &Desk, id: MiniProgramId) -> anyhow::Result<MiniProgramRow> {
    let row = desk.store.mini_program(id).await?;
    row.with_context(|| format!("there is no mini-program {id} (`prepay mini-program list`)"))
}

async fn enable(desk: &Desk, id: MiniProgramId, enabled: bool) -> anyhow::Result<()> {
    let mut row = mini_program(desk, id).await?;
    row.enabled = enabled;
    write(desk, &row).await?;
    Ok(print::line(format_args!("mini-program {id} is {}", if enabled { "enabled" } else { "disabled" }))?)
}

async fn set_secret(desk: &Desk, id: MiniProgramId, secret: &SecretArgs) -> anyhow::Result<()> {
    desk.needs_back_key()?;
    let mut row = mini_program(desk, id).await?;
    let secrets = secret.read(row.program.wallet)?.context("give --app-secret-file (WeChat) or --exchange (Alipay)")?;
    check_secret(desk, &row.program, Some(&secrets)).await?;
    let takes_code = open::takes_code(row.program.wallet, &row.program.app_id, &secrets);
    row.program.takes_code = takes_code.map_err(anyhow::Error::msg)?;
    let name = id.to_string();
    let place = Place { table: "mini_programs", column: "secrets", row: &name };
    row.secrets = Some(desk.vault.seal::<Back>(place, secrets.expose_secret().as_bytes())?);
    write(desk, &row).await?;
    Ok(print::line(format_args!("mini-program {id} is changed; every role follows within reload_every_ms"))?)
}

async fn write(desk: &Desk, row: &MiniProgramRow) -> anyhow::Result<()> {
    if !desk.store.update_mini_program(row).await? {
        bail!("mini-program {} was changed by somebody else at the same time: run it again", row.program.id);
    }
    Ok(())
}
