//! Losses against PyTorch's formulas, written down plainly in double precision, and their gradients against central
//! differences of those.

use std::collections::BTreeMap;

use regatta_autodiff::graph::{Dtype, Graph, GraphError, Provider, Value};
use regatta_autodiff::step::loss::{Settings, batch_loss, summed_loss};
use regatta_autodiff::step::{ClassAxis, CrossEntropy, Loss};

use crate::evaluator::{Tensor, evaluate};

pub const SMOOTHING: f64 = 0.2;
pub const DELTA: f64 = 0.4;
pub const IGNORED: i64 = -100;
pub const CLASS_WEIGHTS: [f64; 4] = [0.5, 2.0, 1.0, 0.25];

/// Outputs and targets of a loss: rows of positions of classes, whatever the order of the axes in the tensors.
#[derive(Clone)]
pub struct Case {
    pub loss: Loss,
    pub output: Tensor,
    pub target: Tensor,
    pub row_weights: Vec<f64>,
}

#[derive(Debug, Default)]
pub struct Figures {
    pub loss: f64,
    pub weight: f64,
    pub correct: f64,
    pub counted: f64,
}

#[test]
fn cross_entropy_is_pytorchs() {
    let shapes: [(&[usize], &[usize], ClassAxis); 7] = [
        (&[3, 4], &[3], ClassAxis::Last),
        (&[2, 5, 4], &[2, 5], ClassAxis::Last),
        (&[2, 4, 3, 2], &[2, 3, 2], ClassAxis::Last),
        (&[2, 4, 3], &[2, 3], ClassAxis::First),
        (&[2, 4, 4], &[2, 4], ClassAxis::Last),
        (&[2, 4, 4], &[2, 4], ClassAxis::First),
        (&[2, 4, 4, 4], &[2, 4, 4], ClassAxis::Last),
    ];
    for (output, target, axis) in shapes {
        for form in 0..8 {
            let form = CrossEntropy {
                axis,
                smoothed: form & 1 != 0,
                weighted: form & 2 != 0,
                ignored: (form & 4 != 0).then_some(IGNORED),
            };
            let positions: usize = target.iter().product();
            let classes = (0..positions as i64).map(|at| match (at % 3, form.ignored) {
                (1, Some(ignored)) => ignored,
                _ => (at * 7 + 1) % 4,
            });
            let target = Tensor::ints(target, classes.collect());
            check(&case(Loss::CrossEntropy(form), spread(output, -2.0, 2.0), target));
        }
    }
}

#[test]
fn losses_of_elements_are_pytorchs() {
    let shapes: [(&[usize], &[usize]); 4] =
        [(&[3, 4], &[3, 4]), (&[3, 1], &[3, 1]), (&[2, 3, 2], &[2, 3, 2]), (&[3], &[3, 1])];
    for (shape, target) in shapes {
        let (output, values) = (spread(shape, -2.0, 2.0), spread(target, -1.0, 1.5));
        let answers: Vec<f64> = values.as_floats().iter().map(|&number| f64::from(number > 0.3)).collect();
        check(&case(Loss::BinaryCrossEntropy, output.clone(), Tensor::floats(target, answers)));
        for loss in [Loss::MeanSquaredError, Loss::MeanAbsoluteError, Loss::Huber] {
            check(&case(loss, output.clone(), values.clone()));
        }
    }
}

#[test]
fn divergence_is_pytorchs() {
    let target = [0.2, 0.5, 0.3, 0.0, 1.0, 0.0];
    for (shape, target) in [(&[2, 3][..], target.to_vec()), (&[2, 2, 3], target.repeat(2))] {
        check(&case(Loss::KlDivergence, spread(shape, -2.0, 2.0), Tensor::floats(shape, target)));
    }
}

#[test]
fn ctc_is_the_probability_of_all_paths() {
    // Equal neighbours need a blank between them; the last row needs more frames than there are, one has no labels.
    let labels = [[1, 2, 0], [2, 2, 0], [3, 0, 0], [1, 2, 3], [0, 0, 0], [3, 3, 3]].concat();
    let (frames, classes) = (4, 4);
    let target = Tensor::ints(&[6, 3], labels);
    let case = case(Loss::Ctc { labels: 3 }, spread(&[6, frames, classes], -2.0, 2.0), target);
    check(&case);
    // The mean of `torch.nn.functional.ctc_loss` over the first five rows, times five.
    let whole = Case { row_weights: vec![1.0; 6], ..case };
    close(reference(&whole).loss, 13.912704567541397, "PyTorch's");
}

#[test]
fn row_that_its_frames_cannot_tell_has_no_loss_and_no_gradient() {
    let target = Tensor::ints(&[1, 2], vec![1, 1]);
    let (figures, gradient) = measured(&case(Loss::Ctc { labels: 2 }, spread(&[1, 2, 3], -2.0, 2.0), target));

    assert_eq!(figures.loss, 0.0);
    assert_eq!(gradient, [0.0; 6]);
}

#[test]
fn batch_of_ignored_positions_has_no_loss_and_no_gradient() {
    for weighted in [false, true] {
        let form = CrossEntropy { smoothed: true, weighted, ignored: Some(IGNORED), ..CrossEntropy::default() };
        let target = Tensor::ints(&[2], vec![IGNORED; 2]);
        let (figures, gradient) = measured(&case(Loss::CrossEntropy(form), spread(&[2, 4], -2.0, 2.0), target));

        assert_eq!((figures.loss, figures.correct, figures.counted), (0.0, 0.0, 0.0));
        assert_eq!(gradient, [0.0; 8]);
    }
}

#[test]
fn losses_name_the_target_they_need() {
    let classes = Loss::CrossEntropy(CrossEntropy::default());
    let labels = Loss::Ctc { labels: 5 };
    let first = Loss::CrossEntropy(CrossEntropy { axis: ClassAxis::First, ..CrossEntropy::default() });
    let rows: [(_, &[usize], _); 14] = [
        (&classes, &[10], Some((Dtype::I64, vec![]))),
        (&classes, &[7, 10], Some((Dtype::I64, vec![7]))),
        (&classes, &[10, 8, 9], Some((Dtype::I64, vec![8, 9]))),
        (&classes, &[], None),
        (&first, &[10], Some((Dtype::I64, vec![]))),
        (&first, &[10, 7], Some((Dtype::I64, vec![7]))),
        (&first, &[10, 8, 9], Some((Dtype::I64, vec![8, 9]))),
        (&Loss::Huber, &[3], Some((Dtype::F32, vec![3]))),
        (&Loss::KlDivergence, &[2, 3], Some((Dtype::F32, vec![2, 3]))),
        (&Loss::BinaryCrossEntropy, &[], Some((Dtype::F32, vec![1]))),
        (&Loss::KlDivergence, &[], None),
        (&labels, &[], None),
        (&labels, &[20, 10], Some((Dtype::I64, vec![5]))),
        (&labels, &[10], None),
    ];
    for (loss, output, target) in rows {
        assert_eq!(loss.target(output), target, "{loss:?} {output:?}");
    }
}

#[test]
fn targets_that_do_not_fit_are_refused() {
    let classes = Loss::CrossEntropy(CrossEntropy::default());
    let labels = Loss::Ctc { labels: 2 };
    let rows: [(&Loss, &[usize], &[usize]); 10] = [
        (&labels, &[3, 4], &[3, 2]),
        (&labels, &[3, 4, 5], &[2, 2]),
        (&classes, &[3, 4], &[4]),
        (&classes, &[3, 4, 5], &[3]),
        (&classes, &[3, 4, 5], &[3, 5]),
        (&classes, &[3], &[3]),
        (&Loss::Huber, &[3, 4], &[3]),
        (&Loss::MeanSquaredError, &[3, 1], &[3]),
        (&Loss::MeanSquaredError, &[3], &[3, 2]),
        (&Loss::MeanSquaredError, &[3], &[2, 1]),
    ];
    for (loss, output, target) in rows {
        let mut graph = Graph::new(Provider::Cpu);
        let output = graph.input("output", Dtype::F64, output).unwrap();
        let dtype = if [&classes, &labels].contains(&loss) { Dtype::I64 } else { Dtype::F64 };
        let target = graph.input("target", dtype, target).unwrap();
        let delta = Some(graph.scalar(Dtype::F64, DELTA));
        let refused = batch_loss(&mut graph, loss, Settings { delta, ..Settings::default() }, output, target);
        assert!(matches!(refused, Err(GraphError::InvalidOperands { .. })), "{loss:?}");
    }
}

fn case(loss: Loss, output: Tensor, target: Tensor) -> Case {
    let row_weights = (0..output.shape[0]).map(|row| [1.0, 0.0, 0.5][row % 3]).collect();
    Case { loss, output, target, row_weights }
}

/// Both forms of the loss against the reference, and the gradient against its differences.
fn check(case: &Case) {
    let whole = Case { row_weights: vec![1.0; case.row_weights.len()], ..case.clone() };
    let mean = |case: &Case| {
        let figures = reference(case);
        figures.loss / figures.weight
    };
    let (figures, gradient) = measured(&whole);
    let what = format!("{:?} of {:?}", case.loss, case.output.shape);
    close(figures.loss, mean(&whole), &what);
    close(figures.correct, reference(&whole).correct, &what);
    close(figures.counted, reference(&whole).counted, &what);
    assert!(gradient.iter().any(|slope| slope.abs() > 1e-3), "{what}");
    for (element, slope) in gradient.iter().enumerate() {
        let at = |shift: f64| {
            let mut floats = whole.output.as_floats().to_vec();
            floats[element] += shift;
            mean(&Case { output: Tensor::floats(&whole.output.shape, floats), ..whole.clone() })
        };
        let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((slope - numeric).abs() < 1e-8, "{what}: {slope} against {numeric} at {element}");
    }

    let (summed, expected) = (summed(case), reference(case));
    close(summed.loss, expected.loss, &what);
    close(summed.weight, expected.weight, &what);
    close(summed.correct, expected.correct, &what);
    close(summed.counted, expected.counted, &what);
}

fn close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() < 1e-12 * expected.abs().max(1.0), "{what}: {found} against {expected}");
}

/// The mean loss and its gradient, as the graph gives them.
fn measured(case: &Case) -> (Figures, Vec<f64>) {
    let mut graph = Graph::new(Provider::Cpu);
    let (output, target, settings) = inputs(&mut graph, case);
    let batch = batch_loss(&mut graph, &case.loss, settings, output, target).unwrap();
    for value in [Some(batch.loss), Some(batch.gradient), batch.correct, batch.counted].into_iter().flatten() {
        graph.output(value);
    }
    let results = evaluate(&graph, &feeds(case));
    let number = |value: Option<Value>| value.map(|value| results[graph.name(value)].as_floats()[0]);
    let all = case.target.shape.iter().product::<usize>() as f64;
    let per_row = if batch.correct.is_some() { all } else { case.output.shape[0] as f64 };
    let figures = Figures {
        loss: number(Some(batch.loss)).unwrap(),
        weight: f64::NAN,
        correct: number(batch.correct).unwrap_or_default(),
        counted: number(batch.counted).unwrap_or(per_row),
    };
    (figures, results[graph.name(batch.gradient)].as_floats().to_vec())
}

fn summed(case: &Case) -> Figures {
    let mut graph = Graph::new(Provider::Cpu);
    let (output, target, settings) = inputs(&mut graph, case);
    let rows = graph.input("rows", Dtype::F64, &[case.row_weights.len()]).unwrap();
    let sums = summed_loss(&mut graph, &case.loss, settings, output, (target, rows)).unwrap();
    for value in [Some(sums.loss), Some(sums.weight), sums.correct, Some(sums.counted)].into_iter().flatten() {
        graph.output(value);
    }
    let results = evaluate(&graph, &feeds(case));
    let number = |value: Value| results[graph.name(value)].as_floats()[0];
    Figures {
        loss: number(sums.loss),
        weight: number(sums.weight),
        correct: sums.correct.map(number).unwrap_or_default(),
        counted: number(sums.counted),
    }
}

fn inputs(graph: &mut Graph, case: &Case) -> (Value, Value, Settings) {
    let classes = matches!(case.loss, Loss::CrossEntropy(_) | Loss::Ctc { .. });
    let output = graph.input("output", Dtype::F64, &case.output.shape).unwrap();
    let target_type = if classes { Dtype::I64 } else { Dtype::F64 };
    let target = graph.input("target", target_type, &case.target.shape).unwrap();
    let settings = Settings {
        smoothing: Some(graph.input("smoothing", Dtype::F64, &[]).unwrap()),
        class_weights: Some(graph.input("class_weights", Dtype::F64, &[CLASS_WEIGHTS.len()]).unwrap()),
        delta: Some(graph.input("delta", Dtype::F64, &[]).unwrap()),
    };
    (output, target, settings)
}

fn feeds(case: &Case) -> BTreeMap<String, Tensor> {
    [
        ("output", case.output.clone()),
        ("target", case.target.clone()),
        ("smoothing", Tensor::floats(&[], vec![SMOOTHING])),
        ("class_weights", Tensor::floats(&[CLASS_WEIGHTS.len()], CLASS_WEIGHTS.to_vec())),
        ("delta", Tensor::floats(&[], vec![DELTA])),
        ("rows", Tensor::floats(&[case.row_weights.len()], case.row_weights.clone())),
    ]
    .map(|(name, tensor)| (name.to_owned(), tensor))
    .into()
}

/// The sums of the loss over the rows, each times its weight, by the formulas that the documentation of PyTorch has.
pub fn reference(case: &Case) -> Figures {
    match case.loss {
        Loss::CrossEntropy(_) => cross_entropy(case),
        Loss::KlDivergence => divergence(case),
        Loss::Ctc { labels } => transcripts(case, labels),
        Loss::BinaryCrossEntropy => mean_of_elements(case, |x, t| {
            let probability = 1.0 / (1.0 + (-x).exp());
            -(t * probability.ln() + (1.0 - t) * (1.0 - probability).ln())
        }),
        Loss::MeanSquaredError => mean_of_elements(case, |x, t| (x - t) * (x - t)),
        Loss::MeanAbsoluteError => mean_of_elements(case, |x, t| (x - t).abs()),
        Loss::Huber => mean_of_elements(case, |x, t| match (x - t).abs() {
            error if error <= DELTA => 0.5 * error * error,
            error => DELTA * (error - 0.5 * DELTA),
        }),
    }
}

fn divergence(case: &Case) -> Figures {
    let width = *case.output.shape.last().unwrap();
    let positions = case.output.as_floats().chunks(width).zip(case.target.as_floats().chunks(width));
    let divergences = positions.map(|(x, t)| {
        let sum = x.iter().map(|x| x.exp()).sum::<f64>().ln();
        let terms = x.iter().zip(t).filter(|(_, t)| **t > 0.0).map(|(x, t)| t * (t.ln() - (x - sum)));
        terms.sum::<f64>()
    });
    let divergences: Vec<f64> = divergences.collect();
    let rows = divergences.chunks(divergences.len() / case.output.shape[0]);
    weighted_rows(case, rows.map(|row| row.iter().sum()))
}

/// Every path of one class a frame, of which those count that are the row's labels once repeats, then blanks, are gone.
fn transcripts(case: &Case, labels: usize) -> Figures {
    let &[_, frames, classes] = &case.output.shape[..] else { panic!("no frames") };
    let rows = case.output.as_floats().chunks(frames * classes).zip(case.target.as_ints().chunks(labels));
    let losses = rows.map(|(logits, labels)| {
        let labels: Vec<i64> = labels.iter().copied().filter(|label| *label != 0).collect();
        let log_probability = |frame: usize, class: usize| {
            let logits = &logits[frame * classes..(frame + 1) * classes];
            logits[class] - logits.iter().map(|logit| logit.exp()).sum::<f64>().ln()
        };
        let probability: f64 = (0..classes.pow(frames as u32))
            .map(|path| (0..frames).map(|frame| path / classes.pow(frame as u32) % classes).collect::<Vec<_>>())
            .filter(|path| {
                let mut told = path.clone();
                told.dedup();
                told.retain(|class| *class != 0);
                told.iter().map(|class| *class as i64).eq(labels.iter().copied())
            })
            .map(|path| path.iter().enumerate().map(|(frame, class)| log_probability(frame, *class)).sum::<f64>().exp())
            .sum();
        if probability > 0.0 { -probability.ln() / labels.len().max(1) as f64 } else { 0.0 }
    });
    weighted_rows(case, losses.collect::<Vec<_>>().into_iter())
}

/// Position by position, as the documentation of PyTorch's `CrossEntropyLoss` has it.
fn cross_entropy(case: &Case) -> Figures {
    let Loss::CrossEntropy(form) = &case.loss else { panic!("another loss") };
    let (shape, positions) = (&case.output.shape, case.target.shape.iter().product::<usize>());
    let classes_last = shape.len() == 3 && form.axis == ClassAxis::Last;
    let inner = if classes_last { 1 } else { shape[2..].iter().product() };
    let (epsilon, per_row) = (if form.smoothed { SMOOTHING } else { 0.0 }, positions / shape[0]);
    let mut figures = Figures::default();
    for (position, &class) in case.target.as_ints().iter().enumerate() {
        let row_weight = case.row_weights[position / per_row];
        if form.ignored == Some(class) {
            continue;
        }
        let class = class as usize;
        let logit = |class: usize| case.output.as_floats()[(position / inner * 4 + class) * inner + position % inner];
        let sum = (0..4).map(|class| logit(class).exp()).sum::<f64>().ln();
        let weight = |class: usize| if form.weighted { CLASS_WEIGHTS[class] } else { 1.0 };
        let smooth: f64 = (0..4).map(|class| weight(class) * (sum - logit(class))).sum();
        let own = weight(class) * (sum - logit(class));
        figures.loss += row_weight * ((1.0 - epsilon) * own + epsilon / 4.0 * smooth);
        figures.weight += row_weight * weight(class);
        figures.counted += row_weight;
        let greatest = (0..4).max_by(|&one, &other| logit(one).total_cmp(&logit(other)));
        figures.correct += row_weight * f64::from(greatest == Some(class));
    }
    figures
}

fn mean_of_elements(case: &Case, loss: impl Fn(f64, f64) -> f64) -> Figures {
    let width: usize = case.output.shape[1..].iter().product();
    let elements: Vec<f64> =
        case.output.as_floats().iter().zip(case.target.as_floats()).map(|(&x, &t)| loss(x, t)).collect();
    weighted_rows(case, elements.chunks(width).map(|row| row.iter().sum::<f64>() / width as f64))
}

fn weighted_rows(case: &Case, losses: impl Iterator<Item = f64>) -> Figures {
    let counted = case.row_weights.iter().sum();
    let loss = losses.zip(&case.row_weights).map(|(loss, weight)| loss * weight).sum();
    Figures { loss, weight: counted, correct: 0.0, counted }
}

/// Numbers between `low` and `high` of which no two are alike.
fn spread(shape: &[usize], low: f64, high: f64) -> Tensor {
    let unit = |position: usize| ((position + 1) as f64 * (0.754_877_666 + high * 0.01)).fract();
    Tensor::floats(shape, (0..shape.iter().product()).map(|at| low + (high - low) * unit(at)).collect())
}
