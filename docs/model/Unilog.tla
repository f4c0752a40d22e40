------------------------------- MODULE Unilog -------------------------------
(* The way of a record: staged by a transaction, numbered, appended to the    *)
(* log, applied by consumers; with everything that may fail in between. There *)
(* is one partition, and its leader numbers: Numbering.tla has it otherwise.  *)
(* The table in README.md says which code each action stands for.             *)
(*                                                                            *)
(* A reply that is lost is the action and then a crash of who waited for it:  *)
(* a streamer steps down after any error, and a consumer reads its checkpoint *)
(* again, so neither knows more than after a crash. A request that arrives    *)
(* late is the step of a zombie.                                              *)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS
    N,            \* how many transactions stage a record
    Ready,        \* how many of them have committed at the start, in order
    Streamers,    \* processes, one of which leads
    A, B,         \* the instances of two consumers, which may be empty
    Faults,       \* how many faults there are at most
    StreamBatch,  \* streamer.Config.BatchRecords
    ReadBatch,    \* consumer.Config.BatchRecords
    Keep,         \* streamer.Config.KeepRecords
    Excess,       \* logExcess * KeepRecords
    Nobody,
    Bug           \* "none" in the right model, or one of these

BugAppend == Bug = "append"  \* the log takes an append without comparing
BugGuard == Bug = "guard"    \* the checkpoint advances from wherever it is
BugGap == Bug = "gap"        \* a consumer applies what it is given
BugTrim == Bug = "trim"      \* the archive is trimmed without a look at the checkpoints
BugEpoch == Bug = "epoch"    \* numbering does not compare epochs
BugRecord == Bug = "record"  \* batches are deleted before it is recorded that they are published
BugReload == Bug = "reload"  \* a gap is fatal, even if another instance has long applied what is missing
BugLook == Bug = "look"      \* a leader does not look where the log is when it has nothing to append
ASSUME Bug \in {"none", "append", "guard", "gap", "trim", "epoch", "record", "reload", "look"}

Ids == 1..N
Instances == A \cup B
Consumers == IF B = {} THEN {"A"} ELSE {"A", "B"}
Of(i) == IF i \in A THEN "A" ELSE "B"

Min(x, y) == IF x < y THEN x ELSE y
Max(x, y) == IF x > y THEN x ELSE y
Least(S) == CHOOSE x \in S : \A y \in S : x <= y
Range(f) == {f[x] : x \in DOMAIN f}
Only(f, S) == [x \in DOMAIN f \cap S |-> f[x]]

VARIABLES
    \* Postgres, the writers' side
    tx,       \* of each staging id: "none", "open", "done" or "undone"
    before,   \* of each staging id: those committed when its transaction began
    staged,   \* the visible rows of unilog.staged_records
    arch,     \* unilog.batches: offset -> staging id
    cut,      \* the archive begins after this offset
    next,     \* unilog.partitions.next_offset
    dbPub,    \* unilog.partitions.published_offset
    flushed,  \* what of it a crash of Postgres leaves
    dbEpoch,  \* unilog.partitions.epoch
    lock,     \* who has the advisory lock
    hist,     \* a ghost: all that was ever numbered
    \* Redis: the stream and the leader's key
    log,      \* offset -> staging id
    head,     \* the stream's last-generated-id
    logEpoch, \* the epoch in the leader's key, 0 if there is none
    by,       \* a ghost: which epoch appended up to each offset
    \* processes
    st,       \* streamers
    co,       \* instances of consumers
    \* Postgres, the consumers' side
    ck,       \* checkpoints.offset
    applied,  \* the consumers' state: what it was made of
    faults    \* how many there were

db == <<staged, arch, cut, next, dbPub, flushed, dbEpoch, hist>>
redis == <<log, head, logEpoch, by>>
consumption == <<co, ck, applied>>
writing == <<tx, before>>
vars == <<tx, before, db, lock, redis, st, consumption, faults>>

\* What a streamer holds in memory: lo..hi is the batch in hand, and with
\* "rebuild", lo is the log's head as it was seen.
Standby == [pc |-> "standby", ep |-> 0, num |-> 0, pub |-> 0, lo |-> 0, hi |-> 0]

\* What an instance of a consumer holds: its checkpoint as it knows it, the last
\* offset of a gap to be filled, and the batch in hand.
Fresh(at) == [at |-> at, gap |-> 0, batch |-> <<>>]

Init ==
    /\ tx = [i \in Ids |-> IF i <= Ready THEN "done" ELSE "none"]
    /\ before = [i \in Ids |-> IF i <= Ready THEN 1..(i - 1) ELSE {}]
    /\ staged = 1..Ready
    /\ arch = <<>> /\ hist = <<>>
    /\ cut = 0 /\ next = 1 /\ dbPub = 0 /\ flushed = 0 /\ dbEpoch = 0
    /\ lock = Nobody
    /\ log = <<>> /\ head = 0 /\ logEpoch = 0 /\ by = <<>>
    /\ st = [s \in Streamers |-> Standby]
    /\ co = [i \in Instances |-> Fresh(0)]
    /\ ck = [c \in Consumers |-> 0]
    /\ applied = [c \in Consumers |-> <<>>]
    /\ faults = 0

----------------------------------------------------------------------------
(* Writers. A staging id is taken in order, and its row is seen after the     *)
(* commit, which may come in any order or never.                              *)

Stage(i) ==
    /\ tx[i] = "none" /\ \A j \in Ids : j < i => tx[j] # "none"
    /\ tx' = [tx EXCEPT ![i] = "open"]
    /\ before' = [before EXCEPT ![i] = {j \in Ids : tx[j] = "done"}]
    /\ UNCHANGED <<db, lock, redis, st, consumption, faults>>

Commit(i) ==
    /\ tx[i] = "open"
    /\ tx' = [tx EXCEPT ![i] = "done"]
    /\ staged' = staged \cup {i}
    /\ UNCHANGED <<before, arch, cut, next, dbPub, flushed, dbEpoch, hist, lock, redis, st, consumption, faults>>

Rollback(i) ==
    /\ tx[i] = "open"
    /\ tx' = [tx EXCEPT ![i] = "undone"]
    /\ UNCHANGED <<before, db, lock, redis, st, consumption, faults>>

----------------------------------------------------------------------------
(* Streamers. One that has lost its session without knowing it, a zombie, goes *)
(* on with whatever it was about to do; only epochs can stop it.               *)

Leads(s) == st[s].ep = dbEpoch

StepDown(s) ==
    /\ st' = [st EXCEPT ![s] = Standby]
    /\ lock' = IF lock = s THEN Nobody ELSE lock

\* The lock and the new epoch: one session, so nobody else can come between.
Lead(s) ==
    /\ st[s].pc = "standby" /\ lock = Nobody
    /\ lock' = s
    /\ dbEpoch' = Max(dbEpoch, logEpoch) + 1
    /\ flushed' = dbPub
    /\ st' = [st EXCEPT ![s] = [Standby EXCEPT !.pc = "claim", !.ep = dbEpoch', !.num = next - 1, !.pub = dbPub]]
    /\ UNCHANGED <<writing, staged, arch, cut, next, dbPub, hist, redis, consumption, faults>>

\* The log is ahead of what this streamer has numbered. A zombie is behind itself.
LogAhead(s) ==
    IF Leads(s)
    THEN st' = [st EXCEPT ![s].pc = "halted"] /\ UNCHANGED lock
    ELSE StepDown(s)

\* At the start of a term, and as the look that the leader takes once a second.
Claim(s) ==
    /\ st[s].pc \in IF BugLook THEN {"claim"} ELSE {"claim", "loop"}
    /\ IF logEpoch > st[s].ep
       THEN StepDown(s) /\ UNCHANGED redis
       ELSE /\ logEpoch' = st[s].ep
            /\ CASE head > st[s].num ->
                      LogAhead(s)
                 [] st[s].pc = "loop" /\ head < st[s].pub ->
                      st' = [st EXCEPT ![s].pc = "rebuild", ![s].lo = head] /\ UNCHANGED lock
                 [] OTHER ->
                      st' = [st EXCEPT ![s].pc = "loop"] /\ UNCHANGED lock
            /\ UNCHANGED <<log, head, by>>
    /\ UNCHANGED <<writing, db, consumption, faults>>

\* One statement with one snapshot: what it sees it moves, and nothing else.
Number(s) ==
    LET batch == {i \in staged : Cardinality({j \in staged : j < i}) < StreamBatch}
        n == Cardinality(batch)
        new == [o \in next..(next + n - 1) |->
                    CHOOSE i \in batch : Cardinality({j \in batch : j < i}) = o - next]
    IN
    /\ st[s].pc = "loop" /\ st[s].pub = st[s].num
    /\ IF ~Leads(s) /\ (~BugEpoch \/ staged = {})
       THEN StepDown(s) /\ UNCHANGED db
       ELSE /\ staged # {}
            /\ arch' = new @@ arch
            /\ hist' = hist \o [k \in 1..n |-> new[next + k - 1]]
            /\ staged' = staged \ batch
            /\ next' = next + n
            /\ dbPub' = st[s].pub /\ flushed' = dbPub'
            /\ st' = [st EXCEPT ![s].num = next + n - 1, ![s].lo = next, ![s].hi = next + n - 1, ![s].pc = "append"]
            /\ UNCHANGED <<cut, dbEpoch, lock>>
    /\ UNCHANGED <<writing, redis, consumption, faults>>

\* What is published is recorded, when it is not numbering that does it. This
\* commit is not flushed.
Record(s) ==
    /\ st[s].pc = "loop" /\ dbPub # st[s].pub
    /\ IF Leads(s)
       THEN dbPub' = st[s].pub /\ UNCHANGED <<st, lock>>
       ELSE StepDown(s) /\ UNCHANGED dbPub
    /\ UNCHANGED <<writing, staged, arch, cut, next, flushed, dbEpoch, hist, redis, consumption, faults>>

\* What is numbered and not published comes from the archive.
Fetch(s) ==
    /\ st[s].pc = "loop" /\ st[s].pub < st[s].num
    /\ Leads(s) => dbPub = st[s].pub
    /\ CASE st[s].pub + 1 \in DOMAIN arch ->
              /\ st' = [st EXCEPT ![s].pc = "append", ![s].lo = st[s].pub + 1,
                                  ![s].hi = Min(st[s].pub + StreamBatch, st[s].num)]
              /\ UNCHANGED lock
         [] Leads(s) /\ st[s].pub + 1 \notin DOMAIN arch ->
              st' = [st EXCEPT ![s].pc = "stuck"] /\ UNCHANGED lock
         [] OTHER -> StepDown(s)
    /\ UNCHANGED <<writing, db, redis, consumption, faults>>

\* Compare and append: a part of the batch, all of it or nothing.
Add(s) ==
    /\ st[s].pc = "append"
    /\ \E m \in st[s].lo..st[s].hi :
       LET lo == st[s].lo
           after(pub) == [st EXCEPT ![s].pub = pub,
                                    ![s].pc = IF pub < st[s].hi THEN "append" ELSE "loop",
                                    ![s].lo = IF pub < st[s].hi THEN pub + 1 ELSE 0,
                                    ![s].hi = IF pub < st[s].hi THEN @ ELSE 0]
           held == Min(head, m)
       IN
       CASE logEpoch > st[s].ep ->
              StepDown(s) /\ UNCHANGED redis
         [] logEpoch <= st[s].ep /\ ~BugAppend /\ head < lo - 1 ->
              /\ st' = [st EXCEPT ![s].pc = "rebuild", ![s].lo = head, ![s].hi = 0]
              /\ UNCHANGED <<redis, lock>>
         [] logEpoch <= st[s].ep /\ ~BugAppend /\ head >= lo ->
              /\ CASE held \in DOMAIN log /\ log[held] # hist[held] ->
                        st' = [st EXCEPT ![s].pc = "halted"] /\ UNCHANGED lock
                   [] head > st[s].num /\ (held \in DOMAIN log => log[held] = hist[held]) ->
                        LogAhead(s)
                   [] OTHER ->
                        st' = after(head) /\ UNCHANGED lock
              /\ UNCHANGED redis
         [] OTHER ->
              /\ log' = [o \in (head + 1)..(head + m - lo + 1) |-> hist[lo + o - head - 1]] @@ log
              /\ head' = head + m - lo + 1
              /\ logEpoch' = st[s].ep
              /\ by' = by \o [k \in 1..(m - lo + 1) |-> st[s].ep]
              /\ st' = after(m)
              /\ UNCHANGED lock
    /\ UNCHANGED <<writing, db, consumption, faults>>

\* The first offset that a consumer needs, or that is among the last ones.
Needed(s) ==
    LET kept == {st[s].pub - Keep} \cup IF BugTrim THEN {} ELSE Range(ck)
    IN Max(0, Least(kept)) + 1

\* The last offset that the log need not keep. A zombie may know of batches
\* that are no longer there.
TrimTo(s) ==
    {Max(Max(Needed(s), st[s].pub - Excess), c + 1) - 1 : c \in IF Leads(s) THEN {cut} ELSE 0..cut}

\* After the claim or the append that found the log behind. The checkpoints are
\* read at the last moment: they only rise, so that is when most is removed.
Rebuild(s) ==
    /\ st[s].pc = "rebuild"
    /\ \E upTo \in TrimTo(s) :
       LET on(pub) == [st EXCEPT ![s].pc = "loop", ![s].lo = 0, ![s].pub = pub]
       IN
       CASE st[s].lo >= upTo ->
              st' = on(st[s].lo) /\ UNCHANGED <<redis, lock>>
         [] st[s].lo < upTo /\ logEpoch > st[s].ep ->
              StepDown(s) /\ UNCHANGED redis
         [] OTHER ->
              /\ log' = <<>> /\ head' = upTo
              /\ logEpoch' = st[s].ep /\ by' = [o \in 1..upTo |-> IF o < upTo THEN 0 ELSE st[s].ep]
              /\ st' = on(upTo)
              /\ UNCHANGED lock
    /\ UNCHANGED <<writing, db, consumption, faults>>

\* Nothing fences this one.
Trim(s) ==
    /\ st[s].pc = "loop"
    /\ \E upTo \in TrimTo(s) : log' = Only(log, (upTo + 1)..N)
    /\ UNCHANGED <<writing, db, lock, head, logEpoch, by, st, consumption, faults>>

\* A batch of the archive is one record here, and its retention over at any time.
\* What it held must be recorded as published: the next leader starts from there. The
\* deletion is flushed, and with it the commits before.
Drop(s) ==
    /\ st[s].pc = "loop" /\ Leads(s) /\ (dbPub = st[s].pub \/ BugRecord)
    /\ cut + 1 < Needed(s)
    /\ cut' = cut + 1
    /\ arch' = Only(arch, (cut + 2)..N)
    /\ flushed' = dbPub
    /\ UNCHANGED <<writing, staged, next, dbPub, dbEpoch, hist, lock, redis, st, consumption, faults>>

Stream(s) ==
    \/ Lead(s) \/ Claim(s) \/ Number(s) \/ Record(s) \/ Fetch(s) \/ Add(s)
    \/ Rebuild(s) \/ Trim(s) \/ Drop(s)

----------------------------------------------------------------------------
(* Consumers. *)

\* The entries of f from one offset, as long as they are consecutive.
From(f, o, most) ==
    LET n == CHOOSE n \in 0..most :
                /\ \A k \in 0..(n - 1) : o + k \in DOMAIN f
                /\ n = most \/ o + n \notin DOMAIN f
    IN [k \in 1..n |-> [offset |-> o + k - 1, id |-> f[o + k - 1]]]

Read(i) ==
    LET at == co[i].at
        ahead == {o \in DOMAIN log : o > at}
    IN
    /\ co[i].batch = <<>> /\ co[i].gap = 0
    /\ IF ahead = {}
       THEN co' = [co EXCEPT ![i].gap = IF dbPub > at THEN dbPub ELSE 0]
       ELSE IF Least(ahead) = at + 1 \/ BugGap
       THEN co' = [co EXCEPT ![i].batch = From(log, Least(ahead), ReadBatch)]
       ELSE co' = [co EXCEPT ![i].gap = Least(ahead) - 1]
    /\ UNCHANGED <<writing, db, lock, redis, st, ck, applied, faults>>

\* A gap that the archive cannot fill halts the consumer, unless another instance
\* has overtaken this one.
Fill(i) ==
    LET at == co[i].at
    IN
    /\ co[i].gap > 0
    /\ co' = [co EXCEPT ![i] =
                IF at + 1 \in DOMAIN arch
                THEN [@ EXCEPT !.gap = 0, !.batch = From(arch, at + 1, Min(ReadBatch, co[i].gap - at))]
                ELSE IF at = ck[Of(i)] \/ BugReload THEN [@ EXCEPT !.gap = -1]
                ELSE Fresh(ck[Of(i)])]
    /\ UNCHANGED <<writing, db, lock, redis, st, ck, applied, faults>>

\* One transaction: the checkpoint, from where the batch began, and the state.
Apply(i) ==
    LET c == Of(i)
        batch == co[i].batch
        last == batch[Len(batch)].offset
    IN
    /\ batch # <<>>
    /\ IF ck[c] = co[i].at \/ BugGuard
       THEN /\ ck' = [ck EXCEPT ![c] = last]
            /\ applied' = [applied EXCEPT ![c] = @ \o [k \in DOMAIN batch |-> batch[k].id]]
            /\ co' = [co EXCEPT ![i] = Fresh(last)]
       ELSE /\ co' = [co EXCEPT ![i] = Fresh(ck[c])]
            /\ UNCHANGED <<ck, applied>>
    /\ UNCHANGED <<writing, db, lock, redis, st, faults>>

Consume(i) == Read(i) \/ Fill(i) \/ Apply(i)

----------------------------------------------------------------------------
(* Faults. *)

Fault == faults < Faults /\ faults' = faults + 1

\* At any step. What was in memory is lost, and so is a session's lock.
CrashStreamer(s) ==
    /\ Fault /\ st[s].pc # "standby"
    /\ StepDown(s)
    /\ UNCHANGED <<writing, db, redis, consumption>>

CrashConsumer(i) ==
    /\ Fault /\ co[i] # Fresh(ck[Of(i)])
    /\ co' = [co EXCEPT ![i] = Fresh(ck[Of(i)])]
    /\ UNCHANGED <<writing, db, lock, redis, st, ck, applied>>

\* The leader's session ends, and it does not know: another can take over.
LoseSession ==
    /\ Fault /\ lock # Nobody
    /\ lock' = Nobody
    /\ UNCHANGED <<writing, db, redis, st, consumption>>

\* All sessions end, and a commit that was not flushed is lost.
CrashPostgres ==
    /\ Fault /\ (lock # Nobody \/ flushed # dbPub)
    /\ lock' = Nobody /\ dbPub' = flushed
    /\ UNCHANGED <<writing, staged, arch, cut, next, flushed, dbEpoch, hist, redis, st, consumption>>

\* Everything, or the newest entries, and what was claimed since: the stream and
\* the leader's key as they were earlier.
LoseEntries ==
    /\ Fault
    /\ \E k \in 0..(head - 1) :
          /\ log' = Only(log, 1..k) /\ head' = k /\ by' = SubSeq(by, 1, k)
          /\ logEpoch' \in (IF k = 0 THEN 0 ELSE by[k])..logEpoch
    /\ UNCHANGED <<writing, db, lock, st, consumption>>

\* A stranger trims the stream, or deletes an entry.
RemoveEntries ==
    /\ Fault
    /\ \E k \in DOMAIN log : \E S \in {1..k, {k}} : log' = Only(log, Ids \ S)
    /\ UNCHANGED <<writing, db, lock, head, logEpoch, by, st, consumption>>

----------------------------------------------------------------------------

Next ==
    \/ \E i \in Ids : Stage(i) \/ Commit(i) \/ Rollback(i)
    \/ \E s \in Streamers : Stream(s) \/ CrashStreamer(s)
    \/ \E i \in Instances : Consume(i) \/ CrashConsumer(i)
    \/ LoseSession \/ CrashPostgres \/ LoseEntries \/ RemoveEntries

Spec == Init /\ [][Next]_vars

\* Every process goes on while it can. Writers may stop at any time.
LiveSpec ==
    /\ Spec
    /\ \A s \in Streamers : WF_vars(Stream(s))
    /\ \A i \in Instances : WF_vars(Consume(i))

Symmetry == Permutations(Streamers) \cup Permutations(A) \cup Permutations(B)

----------------------------------------------------------------------------
(* What must hold. *)

\* The log holds what the archive holds, each at its offset: nothing twice, out
\* of order, or of others.
LogIsArchive ==
    /\ head < next
    /\ \A o \in DOMAIN log : o <= head /\ log[o] = hist[o]

\* From its beginning, the archive is gapless, and never changes.
ArchiveIsGapless ==
    /\ DOMAIN arch = (cut + 1)..(next - 1)
    /\ \A o \in DOMAIN arch : arch[o] = hist[o]
    /\ Len(hist) = next - 1

\* What was committed is staged or numbered, once. What was not is neither.
ExactlyOnce ==
    /\ Cardinality(Range(hist)) = Len(hist)
    /\ staged \cap Range(hist) = {}
    /\ staged \cup Range(hist) = {i \in Ids : tx[i] = "done"}

\* What was committed before another began has the lower offset.
CommitOrder ==
    \A o \in DOMAIN hist : before[hist[o]] \subseteq {hist[p] : p \in 1..(o - 1)}

\* A consumer's state is made of the records up to its checkpoint, each once, in
\* order: none lost, doubled, reordered or passed over.
AppliedIsPrefix ==
    \A c \in Consumers : ck[c] < next /\ applied[c] = SubSeq(hist, 1, ck[c])

\* What a consumer still needs is in the archive.
KeptForConsumers ==
    \A c \in Consumers : cut <= ck[c]

\* Nobody stops and asks for a person where nothing is wrong.
NoFalseAlarm ==
    /\ \A s \in Streamers : st[s].pc \notin {"halted", "stuck"}
    /\ \A i \in Instances : co[i].gap >= 0

\* In the end the log is whole, and every consumer has applied everything.
AllApplied ==
    <>[](staged = {} /\ head = next - 1 /\ \A c \in Consumers : ck[c] = next - 1)
=============================================================================
