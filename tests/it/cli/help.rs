//! What the program says about itself.

use crate::cli::deployment::Deployment;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands() {
    let at = Deployment::empty().await;
    insta::assert_snapshot!(at.ok(&["--help"]).await, @r"
    Payment orders of mini-programs through a queue to WeChat Pay and Alipay, without losing or doubling one

    Usage: prepay [OPTIONS] <COMMAND>

    Commands:
      front         Take calls of phones, merchants and wallets
      worker        Call the wallets for what waits in the queues
      scheduler     Ask the wallets about silent payments, refresh their keys, sweep
      serve         All roles in one process
      migrate       Bring the database's tables up to date
      doctor        Say what a deployment still lacks, down to signed calls to the wallets that cost nothing
      key           Keys of the deployment itself
      merchant      Merchants and the keys that sign their requests
      channel       Merchants' accounts at the wallets
      mini-program  Mini-programs in which orders are paid
      queue         Queues at the broker
      parked        Messages that were set aside for a person
      order         Orders, to look into and to close
      refund        Money that goes back
      event         What merchants are told, and where it does not arrive
      reconcile     Match the wallets' bills of a day with our rows, and repair what differs
      simulator     Simulated wallets alone
      demo          Everything on this machine, with simulated wallets and a page to pay on

    Options:
          --settings <FILE>  Settings file (TOML); PREPAY_ variables go over it [env: PREPAY_SETTINGS]
      -h, --help             Print help
      -V, --version          Print version
    ");
    at.stop().await;
}

/// Whatever is secret can only be named as a file: no argument takes its value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_argument_takes_a_secret() {
    let at = Deployment::empty().await;
    for command in ["add-wechat", "add-alipay", "set-wechat", "set-alipay"] {
        assert_files_only(&at.ok(&["channel", command, "--help"]).await);
    }
    for command in ["add", "set-secret"] {
        assert_files_only(&at.ok(&["mini-program", command, "--help"]).await);
    }
    assert_files_only(&at.ok(&["merchant", "key", "add", "--help"]).await);
    assert_files_only(&at.ok(&["key", "create", "--help"]).await);
    let usage = at.run(&["channel", "add-wechat", "C1", "--apiv3-key", "x"]).await;
    assert_eq!(usage.code, 2, "{usage:?}");
    at.stop().await;
}

fn assert_files_only(help: &str) {
    // Two blanks part an option from what is said about it.
    let options = help.lines().map(|line| line.trim().split("  ").next().unwrap_or_default());
    let options = options.filter(|option| option.starts_with("--"));
    for option in options {
        let named = ["key", "secret", "token"].iter().any(|word| option.contains(word));
        let public = ["--public-key-id", "--drop-"].iter().any(|start| option.starts_with(start));
        assert!(!named || public || option.contains("-file"), "{option}");
    }
}
