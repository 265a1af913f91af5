//! Which rows stand in which shard, and which of them a process encodes.

use crate::prefetcher::ShardWork;
use std::ops::Range;

/// All shards.
pub fn shards(rows: usize, shard_rows: usize) -> Vec<ShardWork> {
    let firsts = (0..rows).step_by(shard_rows).enumerate();
    firsts.map(|(shard, first)| ShardWork { shard, rows: first..rows.min(first + shard_rows) }).collect()
}

/// The batches of some shards, in order. None crosses the end of a shard or of a file of pictures, as the prefetcher cuts them;
/// `files` are the rows of each file.
pub fn batches(
    shards: &[ShardWork],
    files: impl IntoIterator<Item = usize>,
    batch_size: usize,
) -> Vec<ShardWork> {
    let ends: Vec<usize> = files
        .into_iter()
        .scan(0, |end, rows| {
            *end += rows;
            Some(*end)
        })
        .collect();
    let mut batches = Vec::new();
    for ShardWork { shard, rows } in shards {
        let mut first = rows.start;
        while first < rows.end {
            let file = ends[ends.partition_point(|end| *end <= first).min(ends.len() - 1)];
            let end = rows.end.min(first + batch_size).min(if file > first { file } else { rows.end });
            batches.push(ShardWork { shard: *shard, rows: first..end });
            first = end;
        }
    }
    batches
}

/// Consecutive batches, those of one shard as one.
pub fn pieces(batches: &[ShardWork]) -> Vec<ShardWork> {
    let of_one = batches.chunk_by(|a, b| a.shard == b.shard);
    of_one.map(|all| ShardWork { shard: all[0].shard, rows: all[0].rows.start..last(all) }).collect()
}

fn last(batches: &[ShardWork]) -> usize {
    batches.last().map_or(0, |batch| batch.rows.end)
}

/// Whether a range of rows is all of a shard.
pub fn is_whole(piece: &ShardWork, shards: &[ShardWork]) -> bool {
    let Range { start, end } = shards[piece.shard].rows;
    piece.rows == (start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_end_where_shards_and_files_do() {
        let all = shards(25, 10);
        assert_eq!(all.iter().map(|s| s.rows.clone()).collect::<Vec<_>>(), [0..10, 10..20, 20..25]);
        let batches = batches(&all, [0, 12, 13], 4);
        let rows: Vec<_> = batches.iter().map(|b| (b.shard, b.rows.clone())).collect();
        let wanted = [
            (0, 0..4),
            (0, 4..8),
            (0, 8..10),
            (1, 10..12),
            (1, 12..16),
            (1, 16..20),
            (2, 20..24),
            (2, 24..25),
        ];
        assert_eq!(rows, wanted);
        let pieces: Vec<_> = pieces(&batches[1..5]).into_iter().map(|p| (p.shard, p.rows)).collect();
        assert_eq!(pieces, [(0, 4..10), (1, 10..16)]);
        assert!(is_whole(&ShardWork { shard: 2, rows: 20..25 }, &all));
        assert!(!is_whole(&ShardWork { shard: 2, rows: 20..24 }, &all));
    }
}
