//! Values that are zero but for a part, as the gradients of slices are, and their sums.

use super::{Graph, GraphError, Value};

/// What a value is made of that has zeros before and after a part, along one axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Padded {
    pub part: Value,
    pub axis: usize,
    pub before: usize,
}

impl Graph {
    /// The sum of values of one shape. Parts that lie side by side among zeros are put together rather than added up:
    /// of a sequence whose steps are taken one by one, all gradients are one copy, not a sum as long as the sequence
    /// for each of them.
    ///
    /// # Panics
    /// There are no values.
    pub fn sum(&mut self, values: &[Value]) -> Result<Value, GraphError> {
        let mut terms = Vec::with_capacity(values.len());
        let mut padded: Vec<(Value, Padded)> = Vec::new();
        for &value in values {
            match self.padded_by_value.get(&value) {
                Some(&known) if padded.first().is_none_or(|(_, first)| first.axis == known.axis) => {
                    padded.push((value, known));
                }
                _ => terms.push(value),
            }
        }
        padded.sort_by_key(|(_, known)| known.before);
        while !padded.is_empty() {
            let (mut row, mut left) = (Vec::with_capacity(padded.len()), Vec::new());
            let mut end = 0;
            for (value, known) in padded {
                if row.is_empty() || known.before >= end {
                    end = known.before + self.shape(known.part)[known.axis];
                    row.push((value, known));
                } else {
                    left.push((value, known));
                }
            }
            terms.push(self.side_by_side(&row)?);
            padded = left;
        }
        let mut total = terms[0];
        for &term in &terms[1..] {
            total = self.add(total, term)?;
        }
        Ok(total)
    }

    /// Parts in their order along an axis, zeros where none is.
    fn side_by_side(&mut self, row: &[(Value, Padded)]) -> Result<Value, GraphError> {
        let (first, Padded { axis, .. }) = row[0];
        if row.len() == 1 {
            return Ok(first);
        }
        let shape = self.shape(first).to_vec();
        let (mut parts, mut end) = (Vec::with_capacity(row.len()), 0);
        for (_, known) in row {
            self.push_zeros(&mut parts, (&shape, axis), known.before - end, first)?;
            parts.push(known.part);
            end = known.before + self.shape(known.part)[axis];
        }
        self.push_zeros(&mut parts, (&shape, axis), shape[axis] - end, first)?;
        self.concat(&parts, axis)
    }

    /// Zeros of a type and of a shape but for one axis, unless there are none.
    pub(super) fn push_zeros(
        &mut self,
        parts: &mut Vec<Value>,
        (shape, axis): (&[usize], usize),
        count: usize,
        like: Value,
    ) -> Result<(), GraphError> {
        if count > 0 {
            let mut shape = shape.to_vec();
            shape[axis] = count;
            parts.push(self.zeros_like(like, &shape)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dtype, Graph, Provider, Value};

    /// A part of a row of ten, from `before` on.
    fn part(graph: &mut Graph, (before, count): (usize, usize)) -> Value {
        let part = graph.input(&format!("{before} {count}"), Dtype::F32, &[2, count]).expect("a new name");
        graph.pad(part, &[(0, 0), (before, 10 - before - count)]).expect("it fits")
    }

    fn count(graph: &Graph, op: &str) -> usize {
        graph.to_run().nodes().iter().filter(|node| node.op == op).count()
    }

    #[test]
    fn parts_that_do_not_meet_are_put_side_by_side() {
        for provider in [Provider::Cpu, Provider::Cuda] {
            let rows: [(&[(usize, usize)], usize); 5] = [
                (&[(0, 5), (5, 5)], 0),
                (&[(5, 5), (0, 5)], 0),
                (&[(1, 2), (7, 1), (4, 2)], 0),
                (&[(0, 4), (2, 4), (4, 6)], 1),
                (&[(0, 6), (3, 4), (5, 5)], 2),
            ];
            for (parts, additions) in rows {
                let mut graph = Graph::new(provider);
                let parts: Vec<Value> = parts.iter().map(|&place| part(&mut graph, place)).collect();
                let sum = graph.sum(&parts).expect("they are of one shape");
                graph.output(sum);
                assert_eq!(count(&graph, "Add"), additions, "{provider:?} {parts:?}");
                assert_eq!(graph.shape(sum), [2, 10]);
            }
        }
    }

    #[test]
    fn what_is_not_padded_along_one_axis_is_added() {
        let mut graph = Graph::new(Provider::Cpu);
        let whole = graph.input("whole", Dtype::F32, &[2, 10]).expect("a new name");
        let small = graph.input("small", Dtype::F32, &[1, 9]).expect("a new name");
        let corner = graph.pad(small, &[(0, 1), (1, 0)]).expect("it fits");
        let row = graph.input("row", Dtype::F32, &[1, 10]).expect("a new name");
        let below = graph.pad(row, &[(1, 0), (0, 0)]).expect("it fits");
        let left = part(&mut graph, (0, 5));
        let right = part(&mut graph, (5, 5));
        let sum = graph.sum(&[whole, left, corner, below, right]).expect("they are of one shape");
        graph.output(sum);
        assert_eq!((count(&graph, "Add"), count(&graph, "Concat")), (3, 1));
    }
}
