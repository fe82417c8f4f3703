//! What population-based training and random search find on an objective whose best learning rate falls while a trial
//! trains, with the same epochs in all:
//! `cargo run --release -p regatta-search --example population`

mod drift;

use drift::{POPULATION, RESOURCE, at_random, best, median, population};
use serde_json::json;

const SEEDS: u64 = 20;

fn main() {
    let all = |find: &dyn Fn(u64) -> f64| (0..SEEDS).map(find).collect::<Vec<f64>>();
    let asha = |seed| best(&json!({"name": "asha", "mode": "promote"}), 1_000, seed);
    let rows = [("pbt", all(&population)), ("random", all(&at_random)), ("asha, promoting", all(&asha))];
    println!("the best of {} epochs, of {SEEDS} seeds; 1 is the whole way", POPULATION * RESOURCE);
    println!("{:<16} {:>7} {:>7} {:>7}  better than random", "", "median", "least", "most");
    for (name, found) in &rows {
        let wins = found.iter().zip(&rows[1].1).filter(|(found, random)| found > random).count();
        let (least, most) = (found.iter().copied().fold(1.0, f64::min), found.iter().copied().fold(0.0, f64::max));
        println!("{name:<16} {:>7.3} {least:>7.3} {most:>7.3}  {wins} of {SEEDS}", median(found.clone()));
    }
}
