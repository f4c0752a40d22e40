// Package kafkalog keeps a unilog log in Kafka 3.1 or newer.
//
// The log is a topic, and a partition of the log is the topic's partition of the
// same number. Any Kafka client in any language can read it with
// isolation.level=read_committed: it then sees the entries of a partition in
// their order, each offset once. The record's value is the staged JSON, or
// the body, and its key the record's key. Headers tell the rest:
//
//	offset        the entry's offset in its partition; not Kafka's
//	log_id        the database that wrote it
//	epoch         the epoch that wrote it
//	partitions    how many partitions the log has
//	action        what happened
//	object        to what
//	staged_at     when it was staged, in microseconds since 1970
//	headers       the record's headers, a JSON object; left out if it has none
//	content_type  what the body is; left out if the value is JSON
//
// A record with the header marker, and no value, is no entry: a claim says who
// writes from there on, and a reset also that its offset is the head. Kafka's own
// offsets have gaps where transactions end.
//
// # Guarantees
//
// What is appended by one call is one transaction of the transactional id
// <topic>-<partition>. A new leader begins a new producer of that id: Kafka then
// rolls back what earlier ones have begun, and takes nothing more from them,
// however long they were paused. It reads the head only then, so that nothing
// can come between. Each call sees that its records get the Kafka offsets that
// follow what it knows, and rolls back if they do not: somebody else has written,
// or the topic is another one. Two processes of one epoch fence each other
// again and again, which slows them down and does no harm.
//
// A call of [Log.Append] returns when readers see its entries, and they are on
// all replicas in sync: of a topic of three replicas, on two at least.
//
// # Caveats
//
// Open makes the topic if it does not exist, with as many replicas as the
// parameter replication says, by default three. Brokers that are away count, but not
// for Kafka with ZooKeeper. Where there are fewer, the brokers'
// default.replication.factor and min.insync.replicas hold.
//
// Of a topic that exists already, cleanup.policy must be delete, retention.ms and
// retention.bytes must be -1, or else no streamer leads: what is not needed any more
// is trimmed. Its max.message.bytes and segment.bytes must be 4259840 or more, and the
// brokers' socket.request.max.bytes 4325376: a record of [unilog.MaxStoredBytes] has to
// fit. See [Log.Settings]. What else limits messages and fetches in Kafka lets single
// batches pass. The settings cannot be checked without the permission to describe them.
//
// Nothing else may write to the topic: a record that is not of this package
// stops the log's readers and its leader.
//
// When a leader dies in the middle of an append, readers wait for the next leader
// to roll that back, or ten seconds.
//
// Partitions are added when a claim needs more; Kafka cannot remove any.
//
// Streamers need the permissions Read, Write, Describe and Delete (which is for
// trimming records) on the topic, Write and Describe on the transactional ids
// <topic>-*, and, if they are to make and extend it, Create and Alter;
// DescribeConfigs on the topic and the cluster lets them check the settings. Consumers need Read and Describe
// on the topic, which must exist before them, or else Create.
//
// Readers that keep their checkpoints elsewhere commit their offsets for the group of
// their name, see [Log.Report], which takes Read on that group. Who is to see them needs
// Describe on the groups, and who forgets one, Delete.
package kafkalog
