//! Training steps on ONNX Runtime whose states are overwritten in place, against the same steps from one set of
//! tensors into another: the same bits; and AdamW as one operator against stock operators.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/host_kernels.rs"]
mod host_kernels;
#[path = "support/library.rs"]
mod library;

use std::collections::BTreeMap;

use host_kernels::host_kernels;
use library::{device, library};
use regatta_agent::runtime::{Array, Compiled, Device, Interrupt, Runtime, Tensor};
use regatta_autodiff::families::{Activation, Mlp, Model, Norm};
use regatta_autodiff::graph::{Dtype, Provider};
use regatta_autodiff::step::{
    Clip, CrossEntropy, DataRole, Loss, Optimizer, Precision, Program, ScalarRole, StepPlan, Update, accumulation,
    training_step,
};

const ROWS: usize = 48;
const BATCH: usize = 16;
const STEPS: usize = 25;

const OPTIMIZERS: [Optimizer; 11] = [
    Optimizer::Sgd,
    Optimizer::Momentum { nesterov: false },
    Optimizer::Momentum { nesterov: true },
    Optimizer::Adam,
    Optimizer::AdamW,
    Optimizer::Rmsprop { momentum: false },
    Optimizer::Rmsprop { momentum: true },
    Optimizer::Adagrad,
    Optimizer::Lamb,
    Optimizer::Lion,
    Optimizer::AdamW,
];

#[test]
fn steps_in_place_give_the_bits_of_steps_from_one_memory_into_another() {
    let runtime = runtime(1);
    for (position, optimizer) in OPTIMIZERS.into_iter().enumerate() {
        for hidden in [vec![12, 8], vec![]] {
            let own_operators =
                runtime.has_own_operators() && (device() != Device::Cpu || position + 1 == OPTIMIZERS.len());
            let plan = StepPlan { average: true, ..plan(optimizer, &hidden, own_operators) };
            let program = training_step(&plan).unwrap();
            let in_place = trained(&runtime, &program, Memory::InPlace);
            let apart = trained(&runtime, &program, Memory::Apart);
            assert_eq!(in_place, apart, "{plan:?}");
            let Array::F32(weights) = &in_place["regatta.weights"] else { panic!("weights are of type f32") };
            assert!(weights.iter().all(|weight| weight.is_finite()));
        }
    }
}

#[test]
fn steps_in_half_precision_in_place_give_the_same_bits_too() {
    for optimizer in OPTIMIZERS {
        let plan = StepPlan { average: true, precision: Precision::Half, ..plan(optimizer, &[12, 8], false) };
        let (runtime, program) = (runtime(1), training_step(&plan).unwrap());

        let in_place = trained(&runtime, &program, Memory::InPlace);

        assert_eq!(in_place, trained(&runtime, &program, Memory::Apart), "{optimizer:?}");
        assert_eq!(in_place["regatta.applied_updates"], Array::I64(vec![STEPS as i64]));
    }
}

#[test]
fn accumulations_in_place_give_the_same_bits_too() {
    let plan = StepPlan { accumulate: true, ..plan(Optimizer::Adam, &[12, 8], false) };
    let (runtime, program) = (runtime(2), accumulation(&plan).unwrap());

    let in_place = trained(&runtime, &program, Memory::InPlace);

    assert_eq!(in_place, trained(&runtime, &program, Memory::Apart));
    assert!(in_place.contains_key("regatta.weights/gradient_sum"));
}

/// A kernel that writes a state may read no element of it that another of its threads writes.
#[test]
fn steps_with_kernels_in_place_give_the_same_bits_too() {
    if device() != Device::Cpu {
        return;
    }
    for optimizer in OPTIMIZERS {
        for accumulate in [false, true] {
            let plan = plan(optimizer, &[12, 8], true);
            let plan = StepPlan { average: true, accumulate, provider: Provider::Cuda, ..plan };
            let runtime = runtime(1).with_host_kernels(host_kernels());
            let programs = [training_step(&plan).unwrap(), accumulation(&plan).unwrap()];
            for program in &programs[..1 + usize::from(accumulate)] {
                let in_place = trained(&runtime, program, Memory::InPlace);
                assert_eq!(in_place, trained(&runtime, program, Memory::Apart), "{optimizer:?}");
            }
        }
    }
}

#[test]
fn adamw_as_one_operator_gives_the_bits_of_stock_operators() {
    for optimizer in [Optimizer::AdamW, Optimizer::Adam] {
        let of = |own_operators| {
            let own_operators = own_operators && device() == Device::Cpu;
            let stock = plan(optimizer, &[12, 8], own_operators);
            let update = Update { weight_decay: optimizer == Optimizer::AdamW, ..stock.update };
            trained(&runtime(1), &training_step(&StepPlan { update, ..stock }).unwrap(), Memory::InPlace)
        };
        assert_eq!(of(true), of(false), "{optimizer:?}");
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Memory {
    InPlace,
    /// Two tensors for each state, which take turns.
    Apart,
}

/// The states after some steps.
fn trained(runtime: &Runtime, program: &Program, memory: Memory) -> BTreeMap<String, Array> {
    let mut compiled = runtime.compile(&program.onnx()).unwrap();
    let sets = if memory == Memory::InPlace { 1 } else { 2 };
    let mut states: Vec<BTreeMap<String, Tensor>> = (0..sets).map(|_| initial(&compiled, program)).collect();
    let mut bindings = Vec::new();
    for from in 0..sets {
        let mut bound = compiled.bindings().unwrap();
        for state in &program.states {
            bound.input(&state.input.name, &states[from][&state.input.name]).unwrap();
            if let Some(output) = &state.output {
                let to = states[(from + 1) % sets].get_mut(&state.input.name).unwrap();
                bound.output(output, to).unwrap();
            }
        }
        for (name, tensor) in others(&compiled, program) {
            bound.input(&name, &tensor).unwrap();
        }
        for result in &program.results {
            bound.output(&result.name, &mut Tensor::on_host(&[], &Array::F32(vec![0.0])).unwrap()).unwrap();
        }
        bindings.push(bound);
    }
    let interrupt = Interrupt::new().unwrap();
    for step in 0..STEPS {
        compiled.run(&bindings[step % sets], &interrupt).unwrap();
    }
    let changed = program.states.iter().filter(|state| state.output.is_some());
    let last = &states[STEPS % sets];
    changed.map(|state| (state.input.name.clone(), last[&state.input.name].read().unwrap())).collect()
}

fn initial(compiled: &Compiled, program: &Program) -> BTreeMap<String, Tensor> {
    let tensor = |shape: &[usize], dtype: Dtype, is_zero: bool| {
        let count: usize = shape.iter().product();
        let contents = match dtype {
            Dtype::I64 => Array::I64(vec![0; count]),
            _ => Array::F32((0..count).map(|at| if is_zero { 0.0 } else { spread(at) }).collect()),
        };
        compiled.tensor(shape, &contents).unwrap()
    };
    let named = |state: &regatta_autodiff::step::State| {
        let name = state.input.name.clone();
        if name == "regatta.loss_scale" {
            return (name, compiled.tensor(&state.input.shape, &Array::F32(vec![1024.0])).unwrap());
        }
        let is_zero = name.contains('/') && !name.ends_with("/average");
        (name, tensor(&state.input.shape, state.input.dtype, is_zero))
    };
    program.states.iter().map(named).collect()
}

/// Everything but the states.
fn others(compiled: &Compiled, program: &Program) -> Vec<(String, Tensor)> {
    let number = |role| match role {
        ScalarRole::LearningRate => 0.01,
        ScalarRole::WeightDecay => 0.1,
        ScalarRole::Epsilon => 1e-8,
        ScalarRole::DropoutRate => 0.25,
        ScalarRole::Beta2 => 0.99,
        ScalarRole::ClipNorm => 0.5,
        _ => 0.9,
    };
    let mut tensors = Vec::new();
    for scalar in &program.scalars {
        let contents = match scalar.input.dtype {
            Dtype::I64 => Array::I64(vec![7]),
            Dtype::F64 => Array::F64(vec![number(scalar.role)]),
            _ => Array::F32(vec![number(scalar.role) as f32]),
        };
        tensors.push((scalar.input.name.clone(), Tensor::on_host(&[], &contents).unwrap()));
    }
    for data in &program.data {
        let count: usize = data.input.shape.iter().product();
        let contents = match data.role {
            DataRole::Target => Array::I64((0..count as i64).map(|row| row % 3).collect()),
            DataRole::Noise => Array::F32((0..count).map(|at| spread(at) + 0.5).collect()),
            DataRole::Feature(_) | DataRole::ClassWeights => Array::F32((0..count).map(spread).collect()),
        };
        tensors.push((data.input.name.clone(), compiled.tensor(&data.input.shape, &contents).unwrap()));
    }
    let rows = Array::I64((0..BATCH as i64).map(|row| row * 3).collect());
    tensors.push((program.indices.name.clone(), Tensor::on_host(&[BATCH], &rows).unwrap()));
    tensors
}

/// In `-0.5 .. 0.5`.
fn spread(at: usize) -> f32 {
    (at * 7919 % 1009) as f32 / 1009.0 - 0.5
}

fn plan(optimizer: Optimizer, hidden: &[usize], own_operators: bool) -> StepPlan {
    let (hidden, dropout) = (hidden.to_vec(), !hidden.is_empty());
    StepPlan {
        model: Model::Mlp(Mlp {
            inputs: 6,
            hidden,
            norm: Norm::None,
            activation: Activation::Tanh,
            dropout,
            outputs: 3,
        }),
        loss: Loss::CrossEntropy(CrossEntropy::default()),
        augment: Vec::new(),
        update: Update { optimizer, weight_decay: true, own_operators },
        undecayed: vec!["*.bias".into()],
        clip: Clip { norm: true, value: true },
        accumulate: false,
        average: false,
        precision: Precision::Single,
        recompute: false,
        outputs: false,
        rows: ROWS,
        batch: BATCH,
        ahead: 1,
        provider: if device() == Device::Cpu { Provider::Cpu } else { Provider::Cuda },
    }
}

fn runtime(threads: usize) -> Runtime {
    Runtime::load(&library(), device(), threads).expect("ONNX Runtime is where scripts/setup puts it")
}
