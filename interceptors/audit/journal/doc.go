// Package journal keeps records on disk so that none that was acknowledged is lost, and so that others can prove that none was
// added, altered or removed since.
//
// [Journal.Append] returns when its record is durable. All records that wait at the same time share one write and one fdatasync.
// The records lie in segments, files that only grow; while the journal is open the last one ends with up to 1 MiB of zeros. A Merkle
// log follows behind: its leaf i is record i, so it is a function of the segments and of nothing else, and a crash cannot make the two
// disagree. Its tiles are laid out as C2SP tlog-tiles says, and at most a second after a record is acknowledged a signed checkpoint, a
// C2SP tlog-checkpoint, covers it. Both are read by others' tools.
//
// A folder holds:
//
//	lock         held by the process that has the journal open
//	segments/    the records, in files named for the index of their first one
//	times/       when each segment began, signed: what deletion goes by
//	checkpoint   the latest signed checkpoint
//	tile/        the Merkle log's hashes
//	synced       how many records the tiles on disk are sure to cover; a hint for repair, trusted by nobody
//	pruned       which record proves the last deletion of old segments; a hint likewise
//
// What a journal cannot notice alone is a rollback by whoever holds its key and its disk. [Options.Witness] pushes every checkpoint to
// a place that they do not hold, and [Options.Known] and [VerifyOptions.Known] hold the journal to what was pushed.
package journal
