// Package witness takes a journal's checkpoints to places that who holds its disk and its key does not hold, so that a rollback can be
// proved.
//
// [New] asks a C2SP tlog-witness to cosign them, and [Folder] keeps each one in a folder, such as a mount of another machine. Both
// return what [journal.Options.Witness] takes. What they kept goes into [journal.Options.Known] and [journal.VerifyOptions.Known].
package witness
