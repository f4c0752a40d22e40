----------------------------- MODULE Numbering ------------------------------
(* How records get their offsets and how batches reach the leaders of the     *)
(* partitions, over a database that may forget its last commits. Unilog.tla   *)
(* has the rest of the way, for one partition. The table in README.md says    *)
(* which code each action stands for.                                         *)
(*                                                                            *)
(* A batch is one record here. What fails after a commit was sent, without an *)
(* answer, is Unknown: the commit is done, everyone sees it, and a standby    *)
(* that is promoted may not have it.                                          *)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS
    N,         \* how many records there are
    Late,      \* how many of them, the first ones, are not yet committed at the start
    P,         \* how many partitions
    Processes, \* streamers, each with a session that holds its locks
    Faults,    \* how many faults there are at most
    Synchronous, \* a commit that is acknowledged is on the standby
    RingSize,  \* how many batches wait for a leader in its process
    Nobody,
    Bug        \* "none" in the right model, or one of these

BugCompare == Bug = "compare"     \* offsets are given in partitions that nobody has compared with the log
BugTerm == Bug = "term"           \* a comparison holds for later terms, too
BugFence == Bug = "fence"         \* the log's head is read without shutting out the leaders before
BugEarly == Bug = "early"         \* a batch is handed over before its commit is acknowledged
BugConfirm == Bug = "confirm"     \* what is seen in the archive is published without being confirmed
BugOrder == Bug = "order"         \* a leader takes whatever comes next out of the ring
BugDrop == Bug = "drop"           \* a leader that finds the ring empty does not read the archive
ASSUME Bug \in {"none", "compare", "term", "fence", "early", "confirm", "order", "drop"}

Ids == 1..N
Partitions == 1..P
\* The partition of a record: the last one has several.
Of(i) == IF i < P THEN i ELSE P

Max(x, y) == IF x > y THEN x ELSE y
Least(S) == CHOOSE x \in S : \A y \in S : x <= y
Range(f) == {f[x] : x \in DOMAIN f}

VARIABLES
    come,    \* the records that were committed
    \* Postgres: its tables, and what of them a failover leaves
    db,
    safe,
    numLock, \* who has the lock of the one that numbers
    locks,   \* of each partition: who has its lock
    \* the log, of each partition
    log,     \* the records at offsets 1, 2, …
    logEpoch,
    ever,    \* a ghost: all that was ever there, with its offset
    \* processes
    ses,     \* whether the session still is one, which its process learns later
    numSes,  \* whether that of the one that numbers is
    num,     \* the epoch in which it numbers, or 0
    lead,    \* of each partition
    ring,    \* of each partition
    faults   \* how many there were

logs == <<log, logEpoch, ever>>
vars == <<come, db, safe, numLock, locks, logs, ses, numSes, num, lead, ring, faults>>

\* A leader: its epoch, the one that numbers for which it compares, the log's head as
\* it was seen, how far the partition is numbered and published as far as
\* it knows, and the record in hand.
None == [pc |-> "none", ep |-> 0, for |-> 0, saw |-> 0, num |-> 0, pub |-> 0, hand |-> 0]

Init ==
    /\ come = (Late + 1)..N
    /\ db = [
         staged |-> come,
         arch |-> [p \in Partitions |-> <<>>],   \* unilog.batches
         numEpoch |-> 0,                         \* unilog.log.epoch
         epoch |-> [p \in Partitions |-> 0],     \* unilog.partitions.epoch
         compared |-> [p \in Partitions |-> -1]] \* unilog.partitions.compared
    /\ safe = db
    /\ numLock = Nobody /\ locks = [p \in Partitions |-> Nobody]
    /\ log = [p \in Partitions |-> <<>>] /\ logEpoch = [p \in Partitions |-> 0]
    /\ ever = [p \in Partitions |-> {}]
    /\ ses = [x \in Processes |-> TRUE] /\ numSes = [x \in Processes |-> FALSE]
    /\ num = [x \in Processes |-> 0]
    /\ lead = [x \in Processes |-> [p \in Partitions |-> None]]
    /\ ring = [x \in Processes |-> [p \in Partitions |-> <<>>]]
    /\ faults = 0

----------------------------------------------------------------------------
(* Commits. One that is acknowledged confirms all those before it, since a    *)
(* standby has what comes before, too. Without a synchronous standby, an      *)
(* acknowledgement may be worth nothing: from some commit on, none reaches it. *)

Fault == faults < Faults /\ faults' = faults + 1

Acknowledged(new) ==
    /\ db' = new
    /\ safe' \in IF Synchronous \/ faults = Faults THEN {new} ELSE IF safe = db THEN {safe, new} ELSE {safe}
    /\ UNCHANGED faults

Unknown(new) ==
    /\ Synchronous /\ Fault
    /\ db' = new /\ UNCHANGED safe

Write(i) ==
    /\ i \notin come
    /\ come' = come \cup {i}
    /\ Acknowledged([db EXCEPT !.staged = @ \cup {i}])
    /\ UNCHANGED <<numLock, locks, logs, ses, numSes, num, lead, ring>>

----------------------------------------------------------------------------
(* The one that numbers, for all partitions. It has a session of its own,     *)
(* beside that which holds the lock.                                          *)

Begin(x) ==
    LET new == [db EXCEPT !.numEpoch = @ + 1]
    IN
    /\ num[x] = 0 /\ numLock = Nobody /\ ses[x]
    /\ \/ /\ Acknowledged(new)
          /\ numLock' = x /\ num' = [num EXCEPT ![x] = new.numEpoch] /\ numSes' = [numSes EXCEPT ![x] = TRUE]
       \/ Unknown(new) /\ UNCHANGED <<numLock, num, numSes>>
    /\ UNCHANGED <<come, locks, logs, ses, lead, ring>>

\* A lane that has no room, or not what comes before, loses what it holds.
Hand(x, p, o) ==
    /\ lead' = [lead EXCEPT ![x][p].num = IF lead[x][p].pc = "none" THEN 0 ELSE Max(@, o)]
    /\ ring' = [ring EXCEPT ![x][p] =
                  IF lead[x][p].pc = "none" THEN <<>>
                  ELSE IF Len(@) = RingSize \/ (@ # <<>> /\ @[Len(@)].at + 1 # o) THEN <<>>
                  ELSE Append(@, [at |-> o, id |-> db'.arch[p][o]])]

MayNumber(x, p) ==
    \/ db.compared[p] = num[x]
    \/ BugTerm /\ db.compared[p] >= 0
    \/ BugCompare

Number(x) ==
    LET may == {i \in db.staged : MayNumber(x, Of(i))}
        i == Least(may)
        p == Of(i)
        o == Len(db.arch[p]) + 1
        new == [db EXCEPT !.staged = @ \ {i}, !.arch[p] = Append(@, i)]
    IN
    /\ num[x] > 0 /\ numSes[x] /\ num[x] = db.numEpoch
    /\ may # {}
    /\ \/ /\ Acknowledged(new)
          /\ Hand(x, p, o)
          /\ UNCHANGED <<num, numSes, numLock>>
       \/ /\ Unknown(new)
          /\ IF BugEarly THEN Hand(x, p, o) ELSE UNCHANGED <<lead, ring>>
          /\ num' = [num EXCEPT ![x] = 0] /\ numSes' = [numSes EXCEPT ![x] = FALSE]
          /\ numLock' = IF numLock = x THEN Nobody ELSE numLock
    /\ UNCHANGED <<come, locks, logs, ses>>

\* Its session has ended, or another has begun.
End(x) ==
    /\ num[x] > 0 /\ (~numSes[x] \/ num[x] # db.numEpoch)
    /\ num' = [num EXCEPT ![x] = 0] /\ numSes' = [numSes EXCEPT ![x] = FALSE]
    /\ numLock' = IF numLock = x THEN Nobody ELSE numLock
    /\ UNCHANGED <<come, db, safe, locks, logs, ses, lead, ring, faults>>

----------------------------------------------------------------------------
(* Leaders of the partitions.                                                 *)

StepDown(x, p) ==
    /\ lead' = [lead EXCEPT ![x][p] = None]
    /\ ring' = [ring EXCEPT ![x][p] = <<>>]
    /\ locks' = IF locks[p] = x THEN [locks EXCEPT ![p] = Nobody] ELSE locks

\* The new epoch is above the log's too, which may remember a later one than the
\* database.
BeginTerm(x, p) ==
    LET ep == Max(db.epoch[p], logEpoch[p]) + 1
        new == [db EXCEPT !.epoch[p] = ep, !.compared[p] = -1]
    IN
    /\ lead[x][p].pc = "none" /\ ses[x] /\ locks[p] = Nobody
    /\ \/ /\ Acknowledged(new)
          /\ lead' = [lead EXCEPT ![x][p] = [None EXCEPT !.pc = "claim", !.ep = ep]]
          /\ locks' = [locks EXCEPT ![p] = x]
       \/ Unknown(new) /\ UNCHANGED <<lead, locks>>
    /\ UNCHANGED <<come, numLock, logs, ses, numSes, num, ring>>

\* At the start of a term, for each term of the one that numbers, and as a look at the
\* log in between. It shuts out the leaders before.
Claim(x, p) ==
    LET l == lead[x][p]
    IN
    /\ \/ l.pc = "claim"
       \/ /\ l.pc = "loop" /\ l.hand = 0
          /\ l.for # db.numEpoch \/ l.pub # Len(log[p]) \/ l.num < Len(db.arch[p])
    /\ IF logEpoch[p] > l.ep
       THEN StepDown(x, p) /\ UNCHANGED logEpoch
       ELSE /\ logEpoch' = IF BugFence THEN logEpoch ELSE [logEpoch EXCEPT ![p] = l.ep]
            /\ lead' = [lead EXCEPT ![x][p].pc = "ask", ![x][p].saw = Len(log[p]),
                                    ![x][p].for = IF ses[x] THEN db.numEpoch ELSE @]
            /\ UNCHANGED <<ring, locks>>
    /\ UNCHANGED <<come, db, safe, numLock, log, ever, ses, numSes, num, faults>>

\* How far the partition is numbered. If that is news it is confirmed, by a commit.
\* Then the comparison is noted.
Ask(x, p) ==
    LET l == lead[x][p]
        n == Len(db.arch[p])
        new == [db EXCEPT !.compared[p] = l.for]
        confirms == n > l.num /\ ~BugConfirm
        known == [lead EXCEPT ![x][p].pc = "loop", ![x][p].num = Max(@, n), ![x][p].pub = l.saw, ![x][p].saw = 0]
    IN
    /\ l.pc = "ask" /\ ses[x]
    /\ CASE db.epoch[p] # l.ep ->
              StepDown(x, p) /\ UNCHANGED <<db, safe, faults>>
         [] db.epoch[p] = l.ep /\ l.saw > n ->
              /\ lead' = [lead EXCEPT ![x][p].pc = "halted"]
              /\ UNCHANGED <<db, safe, ring, locks, faults>>
         [] db.epoch[p] = l.ep /\ l.saw <= n /\ new = db /\ ~confirms ->
              lead' = known /\ UNCHANGED <<db, safe, ring, locks, faults>>
         [] OTHER ->
              \/ Acknowledged(new) /\ lead' = known /\ UNCHANGED <<ring, locks>>
              \/ /\ Unknown(new)
                 /\ IF confirms
                    THEN StepDown(x, p)
                    ELSE lead' = known /\ UNCHANGED <<ring, locks>>
    /\ UNCHANGED <<come, numLock, logs, ses, numSes, num>>

\* The next batch out of the ring.
FromRing(x, p) ==
    LET l == lead[x][p]
        b == Head(ring[x][p])
    IN
    /\ l.pc = "loop" /\ l.hand = 0 /\ ring[x][p] # <<>>
    /\ b.at <= l.pub + 1 \/ BugOrder
    /\ ring' = [ring EXCEPT ![x][p] = Tail(@)]
    /\ lead' = IF b.at = l.pub + 1 \/ BugOrder THEN [lead EXCEPT ![x][p].hand = b.id] ELSE lead
    /\ UNCHANGED <<come, db, safe, numLock, locks, logs, ses, numSes, num, faults>>

\* Else out of the archive. Any connection serves for that: one to the new primary, too.
FromArchive(x, p) ==
    LET l == lead[x][p]
        o == l.pub + 1
    IN
    /\ l.pc = "loop" /\ l.hand = 0 /\ o <= l.num /\ ~BugDrop
    /\ IF ring[x][p] = <<>> THEN TRUE ELSE Head(ring[x][p]).at > o
    /\ IF o <= Len(db.arch[p])
       THEN lead' = [lead EXCEPT ![x][p].hand = db.arch[p][o]] /\ UNCHANGED <<ring, locks>>
       ELSE StepDown(x, p)
    /\ UNCHANGED <<come, db, safe, numLock, logs, ses, numSes, num, faults>>

\* Compare and append.
Publish(x, p) ==
    LET l == lead[x][p]
        head == Len(log[p])
        at(pub) == [lead EXCEPT ![x][p].pub = pub, ![x][p].hand = 0]
    IN
    /\ l.hand > 0
    /\ CASE logEpoch[p] > l.ep ->
              StepDown(x, p) /\ UNCHANGED logs
         [] logEpoch[p] <= l.ep /\ head < l.pub ->
              lead' = at(head) /\ ring' = [ring EXCEPT ![x][p] = <<>>] /\ UNCHANGED <<logs, locks>>
         [] logEpoch[p] <= l.ep /\ head > l.pub ->
              /\ lead' = IF log[p][l.pub + 1] = l.hand THEN at(head) ELSE [lead EXCEPT ![x][p].pc = "halted", ![x][p].hand = 0]
              /\ UNCHANGED <<logs, ring, locks>>
         [] OTHER ->
              /\ log' = [log EXCEPT ![p] = Append(@, l.hand)]
              /\ ever' = [ever EXCEPT ![p] = @ \cup {<<head + 1, l.hand>>}]
              /\ logEpoch' = [logEpoch EXCEPT ![p] = l.ep]
              /\ lead' = at(head + 1)
              /\ UNCHANGED <<ring, locks>>
    /\ UNCHANGED <<come, db, safe, numLock, ses, numSes, num, faults>>

\* The process learns that its session has ended: all that it did ends.
EndReign(x) ==
    /\ ~ses[x]
    /\ ses' = [ses EXCEPT ![x] = TRUE] /\ numSes' = [numSes EXCEPT ![x] = FALSE]
    /\ num' = [num EXCEPT ![x] = 0]
    /\ lead' = [lead EXCEPT ![x] = [p \in Partitions |-> None]]
    /\ ring' = [ring EXCEPT ![x] = [p \in Partitions |-> <<>>]]
    /\ UNCHANGED <<come, db, safe, numLock, locks, logs, faults>>

Stream(x) ==
    \/ Begin(x) \/ Number(x) \/ End(x) \/ EndReign(x)
    \/ \E p \in Partitions :
          \/ BeginTerm(x, p) \/ Claim(x, p) \/ Ask(x, p)
          \/ FromRing(x, p) \/ FromArchive(x, p) \/ Publish(x, p)

----------------------------------------------------------------------------
(* Faults, beside Unknown. A process that crashes has lost its session, too.  *)

\* Its locks are free, and it does not know: it goes on with what it has. Without a
\* synchronous standby there are failovers alone, which end sessions too.
LoseSession(x) ==
    /\ Synchronous /\ Fault /\ ses[x] /\ (numLock = x \/ x \in Range(locks))
    /\ ses' = [ses EXCEPT ![x] = FALSE]
    /\ numLock' = IF numLock = x THEN Nobody ELSE numLock
    /\ locks' = [p \in Partitions |-> IF locks[p] = x THEN Nobody ELSE locks[p]]
    /\ UNCHANGED <<come, db, safe, logs, numSes, num, lead, ring>>

\* A standby is promoted.
Failover ==
    /\ Fault /\ db # safe
    /\ db' = safe
    /\ ses' = [x \in Processes |-> FALSE] /\ numSes' = [x \in Processes |-> FALSE]
    /\ numLock' = Nobody /\ locks' = [p \in Partitions |-> Nobody]
    /\ UNCHANGED <<come, safe, logs, num, lead, ring>>

Next ==
    \/ \E i \in Ids : Write(i)
    \/ \E x \in Processes : Stream(x) \/ LoseSession(x)
    \/ Failover

Spec == Init /\ [][Next]_vars

LiveSpec == Spec /\ \A x \in Processes : WF_vars(Stream(x))

Symmetry == Permutations(Processes)

----------------------------------------------------------------------------
(* What must hold. *)

\* No offset is given twice: what was ever in the log, where consumers may have read it,
\* is what the archive has there, if it has that offset at all.
NeverTwice ==
    \A p \in Partitions : \A e \in ever[p] :
        /\ e[1] <= Len(db.arch[p]) => db.arch[p][e[1]] = e[2]
        /\ \A f \in ever[p] : e[1] = f[1] => e = f

\* What is in the log cannot be forgotten.
PublishedIsSafe ==
    Synchronous => \A p \in Partitions :
        /\ Len(log[p]) <= Len(safe.arch[p])
        /\ \A o \in DOMAIN log[p] : log[p][o] = safe.arch[p][o]

\* A record that the database has is staged or numbered, once.
ExactlyOnce ==
    LET all == [p \in Partitions |-> Range(db.arch[p])]
    IN
    /\ \A p \in Partitions : Cardinality(all[p]) = Len(db.arch[p]) /\ all[p] \cap db.staged = {}
    /\ Synchronous => db.staged \cup UNION {all[p] : p \in Partitions} = come

\* Nobody stops and asks for a person where nothing is wrong.
NoFalseAlarm ==
    Synchronous => \A x \in Processes : \A p \in Partitions : lead[x][p].pc # "halted"

\* In the end the log has everything.
AllPublished ==
    <>[](db.staged = {} /\ \A p \in Partitions : log[p] = db.arch[p])
=============================================================================
