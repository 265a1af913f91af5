//! Minimum-cost assignment of rows to columns.

/// The column of each row in an assignment of least total cost (shortest augmenting paths with potentials, O(n³)).
///
/// `cost` is a square matrix, row by row. Among equal optima the choice depends on the order of rows and columns.
pub fn assign(cost: &[i64], size: usize) -> Vec<usize> {
    assert_eq!(cost.len(), size * size, "the cost matrix is square");
    // Row and column 0 are sentinels, so that "unmatched" is 0.
    let mut row_potential = vec![0i64; size + 1];
    let mut column_potential = vec![0i64; size + 1];
    let mut row_of = vec![0usize; size + 1];
    let mut previous = vec![0usize; size + 1];
    let mut slack = vec![0i64; size + 1];
    let mut seen = vec![false; size + 1];
    for row in 1..=size {
        row_of[0] = row;
        slack.fill(i64::MAX);
        seen.fill(false);
        let mut column = 0;
        while row_of[column] != 0 {
            seen[column] = true;
            let here = row_of[column];
            let line = &cost[(here - 1) * size..here * size];
            let (mut step, mut nearest) = (i64::MAX, 0);
            for j in 1..=size {
                if seen[j] {
                    continue;
                }
                let reduced = line[j - 1] - row_potential[here] - column_potential[j];
                if reduced < slack[j] {
                    slack[j] = reduced;
                    previous[j] = column;
                }
                if slack[j] < step {
                    step = slack[j];
                    nearest = j;
                }
            }
            for j in 0..=size {
                if seen[j] {
                    row_potential[row_of[j]] += step;
                    column_potential[j] -= step;
                } else if slack[j] != i64::MAX {
                    slack[j] -= step;
                }
            }
            column = nearest;
        }
        while column != 0 {
            row_of[column] = row_of[previous[column]];
            column = previous[column];
        }
    }
    let mut columns = vec![0; size];
    for column in 1..=size {
        columns[row_of[column] - 1] = column - 1;
    }
    columns
}

/// The cost of an assignment.
pub fn total(cost: &[i64], columns: &[usize]) -> i64 {
    columns.iter().enumerate().map(|(row, column)| cost[row * columns.len() + column]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rng::Stream;

    fn brute(cost: &[i64], size: usize, row: usize, used: &mut Vec<bool>) -> i64 {
        if row == size {
            return 0;
        }
        (0..size).fold(i64::MAX, |best, column| {
            if used[column] {
                return best;
            }
            used[column] = true;
            let rest = cost[row * size + column] + brute(cost, size, row + 1, used);
            used[column] = false;
            best.min(rest)
        })
    }

    #[test]
    fn agrees_with_trying_everything() {
        for index in 0..200 {
            let mut stream = Stream::new(0, "assignment", index);
            let size = 1 + stream.below(7) as usize;
            let cost: Vec<i64> = (0..size * size).map(|_| stream.below(12) as i64 - 3).collect();
            let columns = assign(&cost, size);
            let mut sorted = columns.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..size).collect::<Vec<_>>());
            assert_eq!(total(&cost, &columns), brute(&cost, size, 0, &mut vec![false; size]), "{cost:?}");
        }
        assert!(assign(&[], 0).is_empty());
    }
}
