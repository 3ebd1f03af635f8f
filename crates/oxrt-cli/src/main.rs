//! The `oxrt` command: one file per verb, over the facade crate.

mod args;
mod audit;
mod bench;
mod build;
mod check;
mod convert;
mod convert_opset;
mod diff;
mod doctor;
mod export;
mod inspect;
mod repair;
mod run;
mod simplify;
mod ui;
mod verify;
mod view;

use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// PyTorch models to production: `.pt2` → ONNX → simplified graph → engine → inference.
#[derive(Parser)]
#[command(name = "oxrt", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  oxrt convert model.pt2 -o model.engine          the whole road, verified
  oxrt run model.pt2 --in image=cat.png --out y=out.npy
  oxrt export model.pt2 -o model.onnx --dim batch=1..64
  oxrt simplify model.onnx -o small.onnx
  oxrt bench model.engine

Every command accepts the file of an earlier stage. OXRT_LOG=debug shows what happens inside.";

#[derive(Subcommand)]
enum Command {
    Export(export::Args),
    Check(check::Args),
    Repair(repair::Args),
    Simplify(simplify::Args),
    Verify(verify::Args),
    Diff(diff::Args),
    Audit(audit::Args),
    Build(build::Args),
    Run(run::Args),
    Bench(bench::Args),
    Convert(convert::Args),
    ConvertOpset(convert_opset::Args),
    Inspect(inspect::Args),
    View(view::Args),
    Doctor(doctor::Args),
    /// Prints the completion script of a shell
    #[command(after_help = "Example:\n  oxrt completions bash > ~/.local/share/bash-completion/completions/oxrt")]
    Completions {
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    // A closed pipe (`oxrt inspect … | head`) ends the program quietly, as other tools do.
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if text.contains("Broken pipe") {
            std::process::exit(0);
        }
        eprintln!("internal error (please report): {text}");
    }));
    let filter = tracing_subscriber::EnvFilter::try_from_env("OXRT_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    let result = match Cli::parse().command {
        Command::Export(a) => export::run(a),
        Command::Check(a) => check::run(a),
        Command::Repair(a) => repair::run(a),
        Command::Simplify(a) => simplify::run(a),
        Command::Verify(a) => verify::run(a),
        Command::Diff(a) => diff::run(a),
        Command::Audit(a) => audit::run(a),
        Command::Build(a) => build::run(a),
        Command::Run(a) => run::run(a),
        Command::Bench(a) => bench::run(a),
        Command::Convert(a) => convert::run(a),
        Command::ConvertOpset(a) => convert_opset::run(a),
        Command::Inspect(a) => inspect::run(a),
        Command::View(a) => view::run(a),
        Command::Doctor(a) => doctor::run(a),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "oxrt", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|e| {
        ui::print_error(&e);
        // 2: declined because oxrt cannot do this; 1: everything else that went wrong.
        ExitCode::from(if e.kind() == oxrt::Kind::Unsupported { 2 } else { 1 })
    })
}
