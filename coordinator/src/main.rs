//! `regatta`: the coordinator and the command line of a search.

mod ablate;
mod ask;
mod auth;
mod calls;
mod cli;
mod clock;
mod earlier;
mod find;
mod follow;
mod front;
mod history;
mod local;
mod model;
mod nats;
mod output;
mod pack;
mod recorded;
mod replay;
mod run;
mod serve;
mod show;
mod simulate;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use history::History;
use regatta_broker::{Connection, Link, Server, connect, ensure_everything};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// The study file is wrong, or the command line is.
const EXIT_FAULTY: u8 = 2;

/// Whoever read the output has gone: what a shell shows of a program that the signal SIGPIPE ended.
const EXIT_UNREAD: u8 = 141;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(&cli.command);
    match dispatch(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<output::NobodyReads>() => ExitCode::from(EXIT_UNREAD),
        Err(error) => {
            eprintln!("error: {}", format!("{error:#}").trim_end());
            if error.is::<run::FaultyFile>() { ExitCode::from(EXIT_FAULTY) } else { ExitCode::FAILURE }
        }
    }
}

async fn run(server: &Server, args: &cli::Run) -> anyhow::Result<Option<History>> {
    // A fault in the file is told before a fault in the network.
    let asked = run::Asked::read(args)?;
    if args.place.local {
        return run::run_local(args, asked).await;
    }
    run::run(&reach(server).await?, args, asked).await
}

async fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let server = &cli.server;
    match &cli.command {
        Command::Serve(args) => coordinate(server, args).await,
        Command::Run(args) => run(server, args).await.map(drop),
        Command::Ablate(args) => {
            let history = run(server, &ablate::as_run(args)?).await?;
            ablate::plot(args, history.as_ref())
        }
        Command::Simulate(args) => simulate::simulate(args),
        Command::Replay(args) => {
            let recorded = match (&args.export, &args.study) {
                (Some(path), _) => recorded::Recorded::read(path)?,
                (None, Some(study)) => recorded::Recorded::fetch(&reach(server).await?, study).await?,
                (None, None) => unreachable!("the command line wants one of the two"),
            };
            replay::replay(args, &recorded)
        }
        Command::Study(command) => ask::study(&reach(server).await?, command).await,
        Command::Trial(command) => ask::trial(&reach(server).await?, command).await,
        Command::Fleet(json) => ask::fleet(&reach(server).await?, json.json).await,
        Command::Logs(args) => ask::logs(&reach(server).await?, args).await,
        Command::Export(args) => ask::export(&reach(server).await?, args).await,
        Command::Auth(command) => auth::auth(command),
        Command::Check { file } => {
            let study = run::read_unchecked(file)?;
            run::tell_notes(&run::checked(file, &study)?);
            run::check_files(file, &study)?;
            output::print_line(&format!("{} is a study that can run; its data are read when it does", file.display()))
        }
    }
}

async fn reach(server: &Server) -> anyhow::Result<Link> {
    connect_as(server, "regatta", false).await
}

async fn connect_as(server: &Server, name: &str, wait_for_server: bool) -> anyhow::Result<Link> {
    use anyhow::Context;
    connect(&Connection { server: server.clone(), name: name.to_owned(), wait_for_server }).await.with_context(|| {
        let who = match &server.credentials {
            None => "and, where it asks who you are, --credentials or REGATTA_CREDENTIALS".to_owned(),
            Some(file) => format!("the credentials are {}", file.display()),
        };
        format!(
            "cannot reach NATS at {} (set --nats or REGATTA_NATS, {who}; or use `regatta run --local`)",
            server.urls
        )
    })
}

async fn coordinate(server: &Server, args: &cli::Serve) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (shutdown, heard) = watch::channel(false);
    let working = async {
        let link = connect_as(server, "coordinator", true).await?;
        while let Err(error) = ensure_everything(&link, usize::from(args.replicas)).await {
            tracing::warn!(%error, "NATS is not ready; trying again");
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        serve::serve(link, args.into(), heard).await
    };
    let mut working = std::pin::pin!(working);
    tokio::select! {
        outcome = &mut working => return outcome,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.send_replace(true);
    tokio::select! {
        outcome = &mut working => outcome,
        // A second signal, or nothing that could still be stored.
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = tokio::time::sleep(std::time::Duration::from_secs(5)) => Ok(()),
    }
}

fn start_logging(command: &Command) {
    let (default, as_json) = match command {
        Command::Serve(args) => ("info,async_nats=warn", args.log_json),
        _ => ("error", false),
    };
    let filter = EnvFilter::try_from_env("REGATTA_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if as_json {
        builder.json().init();
    } else {
        builder.with_target(false).init();
    }
}
