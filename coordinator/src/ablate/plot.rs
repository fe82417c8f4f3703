//! The differences as a picture: a point and its interval for each component, in one SVG file that needs nothing else.

use std::fmt::Write;

use regatta_search::ablation::{CONFIDENCE, Effect, Findings};

const WIDTH: f64 = 760.0;
const NAMES: f64 = 220.0;
const ROW: f64 = 28.0;
const MARGIN: f64 = 24.0;
const TOP: f64 = 56.0;

/// Of each component and, below them, of each pair.
pub fn svg(findings: &Findings, metric: &str) -> String {
    let rows: Vec<&Effect> = findings.effects.iter().chain(&findings.interactions).collect();
    let scale = Scale::of(&rows);
    let height = TOP + ROW * rows.len() as f64 + 48.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let title = format!("{metric} without, less with: mean and {:.0} % interval", CONFIDENCE * 100.0);
    line(&mut svg, format_args!("<text x=\"{MARGIN}\" y=\"28\" font-size=\"15\">{}</text>", escaped(&title)));
    axis(&mut svg, &scale, height);
    for (place, effect) in rows.into_iter().enumerate() {
        row(&mut svg, &scale, effect, TOP + ROW * (place as f64 + 0.5));
    }
    svg.push_str("</svg>\n");
    svg
}

fn row(svg: &mut String, scale: &Scale, effect: &Effect, y: f64) {
    let name = escaped(&effect.of.join(" \u{d7} "));
    line(svg, format_args!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>", NAMES - 12.0, y + 4.0));
    let Some(estimate) = &effect.estimate else {
        line(svg, format_args!("<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#777\">not measured</text>", NAMES, y + 4.0));
        return;
    };
    let color = if estimate.holds_zero() { "#777" } else { "#0b5fa5" };
    if let Some((low, high)) = estimate.interval {
        let (x1, x2) = (scale.x(low), scale.x(high));
        let stroke = format!("stroke=\"{color}\" stroke-width=\"2\"");
        line(svg, format_args!("<line x1=\"{x1:.1}\" y1=\"{y:.1}\" x2=\"{x2:.1}\" y2=\"{y:.1}\" {stroke}/>"));
        for x in [x1, x2] {
            let (y1, y2) = (y - 5.0, y + 5.0);
            line(svg, format_args!("<line x1=\"{x:.1}\" y1=\"{y1:.1}\" x2=\"{x:.1}\" y2=\"{y2:.1}\" {stroke}/>"));
        }
    }
    line(svg, format_args!("<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\"/>", scale.x(estimate.mean)));
}

fn axis(svg: &mut String, scale: &Scale, height: f64) {
    let bottom = height - 32.0;
    for tick in scale.ticks() {
        let (x, is_zero) = (scale.x(tick), tick == 0.0);
        let color = if is_zero { "#333" } else { "#ddd" };
        line(svg, format_args!("<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"{color}\"/>"));
        let label = format!("{tick:.*}", scale.decimals());
        line(svg, format_args!("<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", bottom + 18.0));
    }
}

fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("a string takes all that is written to it");
    svg.push('\n');
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// From differences to places on the picture; ticks are at multiples of a round step.
struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

impl Scale {
    const TICKS: f64 = 6.0;

    /// Zero is always on it.
    fn of(rows: &[&Effect]) -> Self {
        let estimates = rows.iter().filter_map(|effect| effect.estimate.as_ref());
        let ends = estimates.flat_map(|estimate| {
            let (low, high) = estimate.interval.unwrap_or((estimate.mean, estimate.mean));
            [low, high]
        });
        let (low, high) = ends.fold((0.0_f64, 0.0_f64), |(low, high), end| (low.min(end), high.max(end)));
        let wide = if high > low { high - low } else { 1.0 };
        let power = 10_f64.powf((wide / Self::TICKS).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|round| round * power);
        let step = step.into_iter().find(|step| wide / step <= Self::TICKS).unwrap_or(10.0 * power);
        Self { low: (low / step).floor() * step, high: (high / step).ceil().max(1.0) * step, step }
    }

    fn x(&self, value: f64) -> f64 {
        NAMES + (value - self.low) / (self.high - self.low) * (WIDTH - NAMES - MARGIN - 12.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (first, last) = ((self.low / self.step).round() as i64, (self.high / self.step).round() as i64);
        let step = self.step;
        (first..=last).map(move |multiple| multiple as f64 * step)
    }

    fn decimals(&self) -> usize {
        (-self.step.log10().floor()).clamp(0.0, 9.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use regatta_search::ablation::Estimate;

    use super::*;

    fn effect(name: &str, interval: Option<(f64, f64)>) -> Effect {
        let estimate = interval.map(|(low, high)| Estimate {
            repeats: 5,
            mean: (low + high) / 2.0,
            deviation: 1.0,
            interval: Some((low, high)),
            bootstrap: None,
            effect_size: None,
        });
        Effect { of: vec![name.to_owned()], estimate, mean_without: None, failures: BTreeSet::new() }
    }

    #[test]
    fn ticks_are_round_and_everything_lies_inside() {
        for (low, high) in [(-0.31, 0.02), (0.0, 0.0), (-1e-6, -1e-7), (120.0, 4_000.0)] {
            let effect = effect("a", Some((low, high)));
            let scale = Scale::of(&[&effect]);
            assert!(scale.low <= low && high <= scale.high && scale.low <= 0.0 && 0.0 <= scale.high);
            assert!((2..=9).contains(&scale.ticks().count()), "{low} {high}");
            assert!(scale.ticks().any(|tick| tick == 0.0));
            assert!(scale.x(low) >= NAMES && scale.x(high) <= WIDTH - MARGIN);
        }
    }

    #[test]
    fn names_cannot_end_their_text_and_each_has_its_row() {
        let effects = vec![effect("<b> & c", Some((-0.1, 0.1))), effect("not there", None)];
        let svg = svg(&Findings { mean_whole: None, effects, interactions: Vec::new() }, "validation_accuracy");
        assert!(svg.contains(">&lt;b&gt; &amp; c</text>"));
        assert_eq!(svg.matches("<circle").count(), 1);
        assert_eq!(svg.matches("not measured").count(), 1);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
