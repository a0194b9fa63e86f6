// Package otlpexport sends the records of a journal to an OpenTelemetry Collector, as OTLP logs, beside a program's traces and
// metrics: with the trace and span IDs of the calls that they are of.
//
// An [Exporter] reads the journal's folder. So it runs in the process that writes the journal or in one of its own, and never stands
// between a call and its answer: it takes no lock that the journal takes, and what it cannot send waits on disk, not in memory.
//
// Only records that a signed checkpoint covers are sent, in order, one batch at a time. How far the collector has confirmed is in a
// file, the cursor, which is durable before the next batch is sent. So nothing is lost while the collector is away or when the
// exporter is killed, and at most one batch is sent twice: one that was sent and not confirmed, or whose confirmation was not
// written yet. Since OTLP cannot tell a repetition, every log record has the attributes grpcguard.record.index, its place in the
// journal, and grpcguard.record.id.
//
// No record is passed over in silence. What the collector refuses, the exporter stays at, and tells [Options].Trouble. What it confirms
// only in part is, as OTLP demands, not sent again, and Trouble is told how many records the collector rejected.
package otlpexport
