//! A multilayer perceptron and PyTorch's optimizers in double precision, written down plainly and without any
//! of the product's code: what training through ONNX Runtime must agree with.

use regatta_agent::training::{Activation, OptimizerPlan};

/// Rows of numbers.
pub type Matrix = Vec<Vec<f64>>;

/// What the model is to predict.
pub enum Truth {
    Classes(Vec<usize>),
    Values(Matrix),
}

/// Weights as inputs x outputs, then the bias, layer by layer.
pub struct Reference {
    pub parameters: Vec<Matrix>,
    pub activation: Activation,
    first: Vec<Matrix>,
    second: Vec<Matrix>,
    steps: i32,
}

impl Reference {
    pub fn new(parameters: Vec<Matrix>, activation: Activation) -> Self {
        let zeros: Vec<Matrix> =
            parameters.iter().map(|p| p.iter().map(|row| vec![0.0; row.len()]).collect()).collect();
        Self { parameters, activation, first: zeros.clone(), second: zeros, steps: 0 }
    }

    /// One step over all rows; the loss from before it.
    pub fn step(&mut self, features: &Matrix, truth: &Truth, optimizer: &OptimizerPlan, clip: Option<f64>) -> f64 {
        let (loss, mut gradients) = self.loss_and_gradients(features, truth);
        if let Some(threshold) = clip {
            let norm = gradients.iter().flatten().flatten().map(|g| g * g).sum::<f64>().sqrt();
            let factor = (threshold / (norm + 1e-6)).min(1.0);
            gradients.iter_mut().flatten().flatten().for_each(|g| *g *= factor);
        }
        self.steps += 1;
        for (at, gradient) in gradients.iter().enumerate() {
            for (row, gradient) in gradient.iter().enumerate() {
                for (column, &g) in gradient.iter().enumerate() {
                    let slots = (&mut self.first[at][row][column], &mut self.second[at][row][column]);
                    update(&mut self.parameters[at][row][column], g, slots, self.steps, optimizer);
                }
            }
        }
        loss
    }

    /// The mean loss over all rows and its gradient for each parameter.
    pub fn loss_and_gradients(&self, features: &Matrix, truth: &Truth) -> (f64, Vec<Matrix>) {
        let layers = self.parameters.len() / 2;
        let (mut inputs, mut sums) = (vec![features.clone()], Vec::new());
        for layer in 0..layers {
            let (weight, bias) = (&self.parameters[2 * layer], &self.parameters[2 * layer + 1][0]);
            let sum = linear(&inputs[layer], weight, bias);
            let hidden = layer + 1 < layers;
            let output = |x: &f64| if hidden { self.activate(*x).0 } else { *x };
            inputs.push(sum.iter().map(|row| row.iter().map(output).collect()).collect());
            sums.push(sum);
        }
        let (loss, mut gradient) = self.loss_and_gradient(&inputs[layers], truth);
        let mut gradients = Vec::new();
        for layer in (0..layers).rev() {
            if layer + 1 < layers {
                for (row, sums) in gradient.iter_mut().zip(&sums[layer]) {
                    row.iter_mut().zip(sums).for_each(|(g, x)| *g *= self.activate(*x).1);
                }
            }
            let width = gradient[0].len();
            let bias = (0..width).map(|column| gradient.iter().map(|row| row[column]).sum()).collect();
            gradients.push(vec![bias]);
            gradients.push(transposed_product(&inputs[layer], &gradient));
            gradient = product_transposed(&gradient, &self.parameters[2 * layer]);
        }
        gradients.reverse();
        (loss, gradients)
    }

    /// The function and its slope.
    fn activate(&self, x: f64) -> (f64, f64) {
        match self.activation {
            Activation::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
            Activation::Tanh => (x.tanh(), 1.0 - x.tanh().powi(2)),
            Activation::Sigmoid => {
                let y = 1.0 / (1.0 + (-x).exp());
                (y, y * (1.0 - y))
            }
            Activation::Gelu => {
                let share = 0.5 * (1.0 + erf(x / 2f64.sqrt()));
                let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
                (x * share, share + x * density)
            }
            other => unreachable!("{other:?}: held to differences, not to this reference"),
        }
    }

    fn loss_and_gradient(&self, outputs: &Matrix, truth: &Truth) -> (f64, Matrix) {
        let (mut loss, mut gradient) = (0.0, outputs.clone());
        for (at, (output, gradient)) in outputs.iter().zip(&mut gradient).enumerate() {
            match truth {
                Truth::Classes(classes) => {
                    let total: f64 = output.iter().map(|x| x.exp()).sum();
                    let share = 1.0 / outputs.len() as f64;
                    loss -= share * (output[classes[at]] - total.ln());
                    for (class, (g, x)) in gradient.iter_mut().zip(output).enumerate() {
                        *g = share * (x.exp() / total - f64::from(u8::from(class == classes[at])));
                    }
                }
                Truth::Values(values) => {
                    let share = 1.0 / (outputs.len() * output.len()) as f64;
                    for (g, (x, value)) in gradient.iter_mut().zip(output.iter().zip(&values[at])) {
                        loss += share * (x - value).powi(2);
                        *g = 2.0 * share * (x - value);
                    }
                }
            }
        }
        (loss, gradient)
    }
}

/// One weight, with the formulas of `torch.optim`.
fn update(w: &mut f64, g: f64, slots: (&mut f64, &mut f64), step: i32, optimizer: &OptimizerPlan) {
    let (first, second) = slots;
    match *optimizer {
        OptimizerPlan::Sgd { learning_rate, momentum, nesterov, weight_decay } => {
            let g = g + weight_decay * *w;
            *first = if step == 1 { g } else { momentum * *first + g };
            *w -= learning_rate * if nesterov { g + momentum * *first } else { *first };
        }
        OptimizerPlan::Rmsprop { learning_rate, alpha, epsilon, momentum, weight_decay } => {
            let g = g + weight_decay * *w;
            *second = alpha * *second + (1.0 - alpha) * g * g;
            *first = momentum * *first + g / (second.sqrt() + epsilon);
            *w -= learning_rate * *first;
        }
        OptimizerPlan::Adagrad { learning_rate, epsilon, weight_decay } => {
            let g = g + weight_decay * *w;
            *second += g * g;
            *w -= learning_rate * g / (second.sqrt() + epsilon);
        }
        OptimizerPlan::Lamb(_) | OptimizerPlan::Lion { .. } => {
            unreachable!("not smooth in each weight by itself: held to its formula in double precision")
        }
        OptimizerPlan::Adam(adam) | OptimizerPlan::AdamW(adam) => {
            let decoupled = matches!(optimizer, OptimizerPlan::AdamW(_));
            let g = if decoupled { g } else { g + adam.weight_decay * *w };
            *w *= if decoupled { 1.0 - adam.learning_rate * adam.weight_decay } else { 1.0 };
            *first = adam.beta1 * *first + (1.0 - adam.beta1) * g;
            *second = adam.beta2 * *second + (1.0 - adam.beta2) * g * g;
            let root = (*second / (1.0 - adam.beta2.powi(step))).sqrt();
            *w -= adam.learning_rate / (1.0 - adam.beta1.powi(step)) * *first / (root + adam.epsilon);
        }
    }
}

fn linear(x: &Matrix, weight: &Matrix, bias: &[f64]) -> Matrix {
    let output = |row: &Vec<f64>, column: usize| {
        bias[column] + row.iter().zip(weight).map(|(x, weights)| x * weights[column]).sum::<f64>()
    };
    x.iter().map(|row| (0..bias.len()).map(|column| output(row, column)).collect()).collect()
}

/// Left transposed times right.
fn transposed_product(left: &Matrix, right: &Matrix) -> Matrix {
    let element = |i: usize, j: usize| left.iter().zip(right).map(|(l, r)| l[i] * r[j]).sum();
    (0..left[0].len()).map(|i| (0..right[0].len()).map(|j| element(i, j)).collect()).collect()
}

/// Left times right transposed.
fn product_transposed(left: &Matrix, right: &Matrix) -> Matrix {
    let dot = |l: &[f64], r: &[f64]| l.iter().zip(r).map(|(a, b)| a * b).sum();
    left.iter().map(|l| right.iter().map(|r| dot(l, r)).collect()).collect()
}

/// The error function by its series with positive terms only.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}
