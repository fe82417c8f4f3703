//! What priors do to a search: `cargo run --release -p regatta-search --example priors [SEEDS [SAMPLER]]` prints, for each
//! sampler and for no, good, vague and wrong priors, the median over seeds of the least loss after some trials.

#[path = "../tests/suite/toys.rs"]
mod toys;

use toys::{Beliefs, medians};

const SAMPLERS: [&str; 7] = ["random", "sobol", "tpe", "gp", "cqr", "evolution", "cma_es"];
const BELIEFS: [(&str, Beliefs); 4] =
    [("none", Beliefs::None), ("good", Beliefs::Good), ("vague", Beliefs::Vague), ("wrong", Beliefs::Wrong)];
const AFTER: [usize; 4] = [10, 25, 50, 100];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seeds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(20).max(1);
    let sampler = arguments.next();
    println!("| sampler | priors | after 10 | after 25 | after 50 | after 100 |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for name in SAMPLERS.iter().filter(|name| sampler.as_ref().is_none_or(|wanted| wanted == *name)) {
        for (label, beliefs) in BELIEFS {
            let found =
                medians(name, beliefs, &AFTER, seeds).iter().map(|loss| format!("{loss:.4}")).collect::<Vec<_>>();
            println!("| `{name}` | {label} | {} |", found.join(" | "));
        }
    }
}
