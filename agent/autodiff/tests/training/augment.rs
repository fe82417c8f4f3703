//! Augmentations in double precision: what they do to rows, that they are drawn anew for each row and step from the
//! seed, and that losses follow the rows.

use std::collections::BTreeMap;

use regatta_autodiff::families::{Activation, Mlp, Model, Norm};
use regatta_autodiff::graph::{Dtype, Graph, Provider};
use regatta_autodiff::step::augment::{Settings, augment};
use regatta_autodiff::step::{
    Augment, Clip, CrossEntropy, DataRole, Loss, Noise, Optimizer, Precision, Program, ResultRole, ScalarRole,
    StepError, StepPlan, Update, accumulation, training_step,
};

use crate::evaluator::{Tensor, evaluate};

const ROWS: usize = 64;
const IMAGE: [usize; 3] = [2, 4, 5];

/// The rows of one feature after some augmentations, and the partners of several rows that were mixed.
struct Found {
    rows: Vec<Vec<f64>>,
    partners: Option<Vec<i64>>,
}

struct Drawn {
    seed: i64,
    step: i64,
    deviation: f64,
    share: f64,
}

const DRAWN: Drawn = Drawn { seed: 5, step: 1, deviation: 0.5, share: 0.25 };

fn augmented(augments: &[Augment], x: &Tensor, drawn: &Drawn) -> Found {
    let mut graph = Graph::new(Provider::Cpu);
    let step = graph.input("step", Dtype::I64, &[]).unwrap();
    let feature = graph.input("x", Dtype::F32, &x.shape).unwrap();
    let deviation = graph.input("deviation", Dtype::F32, &[]).unwrap();
    let share = graph.input("share", Dtype::F32, &[]).unwrap();
    let settings = Settings { deviation: Some(deviation), share: Some(share) };
    let result = augment(&mut graph, augments, settings, &mut Noise::new(step), vec![feature]).unwrap();
    graph.output(result.features[0]);
    let partners = result.mixed.map(|mixed| mixed.partners).filter(|_| x.shape[0] > 1);
    if let Some(partners) = partners {
        graph.output(partners);
    }

    let mut feeds = BTreeMap::from([
        ("x".to_owned(), x.clone()),
        ("step".to_owned(), Tensor::ints(&[], vec![drawn.step])),
        ("deviation".to_owned(), Tensor::floats(&[], vec![drawn.deviation])),
        ("share".to_owned(), Tensor::floats(&[], vec![drawn.share])),
    ]);
    for &input in graph.inputs() {
        let name = graph.name(input).to_owned();
        if name == "regatta.dropout_seed" {
            feeds.insert(name, Tensor::ints(&[], vec![drawn.seed]));
        } else if name.starts_with("regatta.noise_") {
            let pool = spread(graph.shape(input));
            feeds.insert(name, pool);
        }
    }
    let outputs = evaluate(&graph, &feeds);
    let features = &outputs[graph.name(result.features[0])];
    assert_eq!(features.shape, x.shape);
    let width = x.shape[1..].iter().product();
    Found {
        rows: features.as_floats().chunks(width).map(<[f64]>::to_vec).collect(),
        partners: partners.map(|partners| outputs[graph.name(partners)].as_ints().to_vec()),
    }
}

/// Images of which no two elements are alike, and none is zero.
fn images() -> Tensor {
    let shape = [&[ROWS], IMAGE.as_slice()].concat();
    let count: usize = shape.iter().product();
    Tensor::floats(&shape, (1..=count).map(|number| number as f64).collect())
}

/// In `0 .. 1`, the same for the same shape.
pub fn spread(shape: &[usize]) -> Tensor {
    let unit = |place: u64| {
        let mut z = (place + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    Tensor::floats(shape, (0..shape.iter().product::<usize>() as u64).map(unit).collect())
}

fn rows_of(x: &Tensor) -> Vec<&[f64]> {
    x.as_floats().chunks(x.shape[1..].iter().product()).collect()
}

/// An image moved so that its element at (down, right) comes to the top left corner.
fn moved(image: &[f64], down: i64, right: i64) -> Vec<f64> {
    let [channels, height, width] = IMAGE.map(|size| size as i64);
    let mut moved = Vec::new();
    for channel in 0..channels {
        for y in down..down + height {
            for x in right..right + width {
                let is_inside = (0..height).contains(&y) && (0..width).contains(&x);
                let place = (channel * height + y) * width + x;
                moved.push(if is_inside { image[place as usize] } else { 0.0 });
            }
        }
    }
    moved
}

#[test]
fn shifts_are_whole_windows_of_every_distance() {
    let x = images();
    let found = augmented(&[Augment::Shift { pixels: 2 }], &x, &DRAWN);
    let mut distances = BTreeMap::new();
    for (row, image) in found.rows.iter().zip(rows_of(&x)) {
        let all = (-2..=2).flat_map(|down| (-2..=2).map(move |right| (down, right)));
        let matching: Vec<_> = all.filter(|(down, right)| moved(image, *down, *right) == *row).collect();
        assert_eq!(matching.len(), 1, "{row:?} of {image:?}");
        *distances.entry(matching[0]).or_insert(0) += 1;
    }
    for distance in -2..=2 {
        assert!(distances.keys().any(|found| found.0 == distance), "{distances:?}");
        assert!(distances.keys().any(|found| found.1 == distance), "{distances:?}");
    }
    assert!(distances.len() > 15, "the two directions are drawn apart: {distances:?}");
}

#[test]
fn half_of_the_images_are_mirrored() {
    let x = images();
    let found = augmented(&[Augment::Flip], &x, &DRAWN);
    let mirror =
        |image: &[f64]| -> Vec<f64> { image.chunks(IMAGE[2]).flat_map(|line| line.iter().rev()).copied().collect() };
    let mut mirrored = 0;
    for (row, image) in found.rows.iter().zip(rows_of(&x)) {
        assert!(row == image || *row == mirror(image));
        mirrored += usize::from(row != image);
    }
    assert!((ROWS / 4..=3 * ROWS / 4).contains(&mirrored), "{mirrored} of {ROWS}");
}

#[test]
fn noise_is_normal_with_its_deviation() {
    let x = Tensor::floats(&[ROWS, 300], vec![3.0; ROWS * 300]);
    let found = augmented(&[Augment::Noise], &x, &DRAWN);
    let noise: Vec<f64> = found.rows.concat().iter().map(|number| (number - 3.0) / 0.5).collect();
    let moment = |power: i32| noise.iter().map(|number| number.powi(power)).sum::<f64>() / noise.len() as f64;
    assert!(moment(1).abs() < 0.03, "{}", moment(1));
    assert!((moment(2) - 1.0).abs() < 0.05, "{}", moment(2));
    assert!(moment(3).abs() < 0.1, "{}", moment(3));
    assert!((moment(4) - 3.0).abs() < 0.3, "{}", moment(4));
    let still = augmented(&[Augment::Noise], &x, &Drawn { deviation: 0.0, ..DRAWN });
    assert_eq!(still.rows.concat(), x.as_floats());
}

#[test]
fn mixed_rows_are_blends_of_two_different_rows() {
    let x = images();
    let found = augmented(&[Augment::Mixup], &x, &DRAWN);
    let (partners, rows) = (found.partners.unwrap(), rows_of(&x));
    for (at, (row, partner)) in found.rows.iter().zip(&partners).enumerate() {
        assert_ne!(at, *partner as usize);
        for (place, number) in row.iter().enumerate() {
            let expected = 0.25 * rows[at][place] + 0.75 * rows[*partner as usize][place];
            assert!((number - expected).abs() < 1e-9, "{number} against {expected}");
        }
    }
    let mut sorted = partners;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..ROWS as i64).collect::<Vec<_>>());

    let alone = augmented(&[Augment::Mixup], &Tensor::floats(&[1, 2], vec![1.0, 2.0]), &DRAWN);
    assert_eq!(alone.rows.concat(), [1.0, 2.0]);
}

#[test]
fn rows_are_a_function_of_seed_and_step() {
    let x = images();
    for augment in [Augment::Shift { pixels: 1 }, Augment::Flip, Augment::Noise, Augment::Mixup] {
        let rows = |seed, step| augmented(&[augment], &x, &Drawn { seed, step, ..DRAWN }).rows;
        assert_eq!(rows(1, 1), rows(1, 1), "{augment:?}");
        assert_ne!(rows(1, 1), rows(2, 1), "{augment:?}");
        assert_ne!(rows(1, 1), rows(1, 2), "{augment:?}");
    }
}

#[test]
fn augmentations_follow_one_another() {
    let x = images();
    let all = [Augment::Shift { pixels: 1 }, Augment::Flip, Augment::Noise, Augment::Mixup];
    let still = Drawn { deviation: 0.0, share: 1.0, ..DRAWN };
    let two = augmented(&all[..2], &x, &still);
    let four = augmented(&all, &x, &still);
    for (number, expected) in four.rows.concat().iter().zip(two.rows.concat()) {
        assert!((number - expected).abs() < 1e-9);
    }
}

#[test]
fn losses_of_a_step_are_mixed_as_its_rows_are() {
    let losses = [Loss::CrossEntropy(CrossEntropy::default()), Loss::MeanSquaredError];
    for loss in losses {
        let plan = plan(loss.clone(), vec![Augment::Mixup]);
        let mixed = training_step(&plan).unwrap();
        let plain = training_step(&StepPlan { augment: Vec::new(), ..plan.clone() }).unwrap();
        // The model is linear: where all rows are alike, mixing changes the targets alone.
        let measured = |program: &Program, share: f64, targets: &[i64; 2]| {
            let outputs = evaluate(&program.graph, &feeds(program, share, targets));
            let result = program.results.iter().find(|result| result.role == ResultRole::Loss).unwrap();
            outputs[&result.name].as_floats()[0]
        };
        let (own, other) = (measured(&plain, 1.0, &[0, 0]), measured(&plain, 1.0, &[1, 1]));
        assert!((own - other).abs() > 0.01);
        for share in [0.0, 0.3, 1.0] {
            // Two rows, each the other's partner.
            let found = measured(&mixed, share, &[0, 1]);
            assert!((found - 0.5 * (own + other)).abs() < 1e-9, "{loss:?} {share}: {found}");
            let alike = measured(&mixed, share, &[1, 1]);
            assert!((alike - other).abs() < 1e-9, "{loss:?} {share}: {alike}");
        }
    }
}

#[test]
fn gradients_of_mixed_rows_agree_with_differences() {
    let augment = vec![Augment::Noise, Augment::Mixup];
    for program in [training_step, accumulation] {
        let loss = Loss::CrossEntropy(CrossEntropy { smoothed: true, ..CrossEntropy::default() });
        let plan = StepPlan { accumulate: true, ..plan(loss, augment.clone()) };
        let program = program(&plan).unwrap();
        let roles: Vec<ScalarRole> = program.scalars.iter().map(|scalar| scalar.role).collect();
        assert!(roles.contains(&ScalarRole::MixupShare) && roles.contains(&ScalarRole::NoiseDeviation));
    }
    let loss = Loss::CrossEntropy(CrossEntropy::default());
    let program = training_step(&plan(loss, augment)).unwrap();
    let feeds = feeds(&program, 0.3, &[0, 2]);
    let after = evaluate(&program.graph, &feeds);
    let state = program.states.iter().find(|state| state.input.name == "regatta.weights").unwrap();
    let (before, after) = (&feeds[&state.input.name], &after[state.output.as_ref().unwrap()]);
    let loss_at = |element: usize, shift: f64| {
        let mut numbers = before.as_floats().to_vec();
        numbers[element] += shift;
        let mut moved = feeds.clone();
        moved.insert(state.input.name.clone(), Tensor::floats(&before.shape, numbers));
        let result = program.results.iter().find(|result| result.role == ResultRole::Loss).unwrap();
        evaluate(&program.graph, &moved)[&result.name].as_floats()[0]
    };
    for (element, (old, new)) in before.as_floats().iter().zip(after.as_floats()).enumerate() {
        let numeric = (loss_at(element, 1e-5) - loss_at(element, -1e-5)) / 2e-5;
        // Plain descent at rate one.
        assert!(
            (old - new - numeric).abs() < 1e-6 * numeric.abs().max(0.01),
            "{element}: {} against {numeric}",
            old - new
        );
    }
}

#[test]
fn augmentations_that_do_not_go_with_the_model_are_refused() {
    for augment in [Augment::Flip, Augment::Shift { pixels: 1 }] {
        let error = training_step(&plan(Loss::MeanSquaredError, vec![augment])).unwrap_err();
        assert!(matches!(error, StepError::Augment { name, .. } if name == augment.name()), "{error}");
    }
    let (image, tokens) = ((Dtype::F32, [1, 3, 4].as_slice()), (Dtype::I64, [7].as_slice()));
    assert!(Augment::Shift { pixels: 3 }.misfit(&[image]).is_some());
    assert!(Augment::Shift { pixels: 2 }.misfit(&[image, tokens]).is_none());
    assert!(Augment::Noise.misfit(&[tokens]).is_some());
    assert!(Augment::Noise.misfit(&[tokens, image]).is_none());
    assert!(Augment::Mixup.misfit(&[tokens, image]).is_some());
}

fn plan(loss: Loss, augment: Vec<Augment>) -> StepPlan {
    StepPlan {
        model: Model::Mlp(Mlp {
            inputs: 4,
            hidden: vec![],
            norm: Norm::None,
            activation: Activation::Tanh,
            dropout: false,
            outputs: 3,
        }),
        loss,
        augment,
        update: Update { optimizer: Optimizer::Sgd, weight_decay: false, own_operators: false },
        undecayed: Vec::new(),
        clip: Clip::default(),
        accumulate: false,
        average: false,
        precision: Precision::Single,
        recompute: false,
        outputs: false,
        rows: 2,
        batch: 2,
        ahead: 1,
        provider: Provider::Cpu,
    }
}

/// Two rows that are alike, of these classes or of values that follow from them.
fn feeds(program: &Program, share: f64, targets: &[i64; 2]) -> BTreeMap<String, Tensor> {
    let mut feeds = BTreeMap::new();
    for state in &program.states {
        let count: usize = state.input.shape.iter().product();
        let tensor = match state.input.dtype {
            Dtype::I64 => Tensor::ints(&[], vec![0]),
            _ => Tensor::floats(&state.input.shape, (0..count).map(|at| (at * 7 % 5) as f64 / 4.0 - 0.5).collect()),
        };
        feeds.insert(state.input.name.clone(), tensor);
    }
    for scalar in &program.scalars {
        let tensor = match scalar.role {
            ScalarRole::DropoutSeed => Tensor::ints(&[], vec![3]),
            ScalarRole::MixupShare => Tensor::floats(&[], vec![share]),
            ScalarRole::NoiseDeviation => Tensor::floats(&[], vec![0.1]),
            _ => Tensor::floats(&[], vec![1.0]),
        };
        feeds.insert(scalar.input.name.clone(), tensor);
    }
    for data in &program.data {
        let shape = &data.input.shape;
        let tensor = match (data.role, data.input.dtype) {
            (DataRole::Target, Dtype::I64) => Tensor::ints(shape, targets.to_vec()),
            (DataRole::Target, _) => {
                Tensor::floats(shape, targets.iter().flat_map(|target| [*target as f64; 3]).collect())
            }
            (DataRole::Feature(_), _) => Tensor::floats(shape, [0.5, -1.0, 2.0, 0.25].repeat(2)),
            _ => spread(shape),
        };
        feeds.insert(data.input.name.clone(), tensor);
    }
    feeds.insert(program.indices.name.clone(), Tensor::ints(&[2], vec![0, 1]));
    feeds
}
