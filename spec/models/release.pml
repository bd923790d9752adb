/*
 * Release of keys, revocation and withdrawal at a node with two workers. README.md has the rest.
 *
 *   spin -a release.pml && cc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m100000
 *   spin -n7 release.pml                        one random run, with its events
 *   spin -a -DNO_LIVE release.pml && ...        the model without one guard
 *
 * Grants: the owner's wallet signed PARENT to a session, the session signed CHILD to a backend. A
 * backend asks for a key under both. Each block in `atomic` is one read or one commit of the store.
 */

#define PARENT 0
#define CHILD 1

/* Entries on the operator's list of withdrawals. */
#define OTHER 1
#define BACKEND 2
#define SESSION 4

#ifndef ASKS
#define ASKS 1          /* requests of each worker */
#endif
#ifndef LOSSES
#define LOSSES 1        /* times that the store loses what was not durable */
#endif
#ifndef RESTARTS
#define RESTARTS 1      /* restarts of workers, both together */
#endif

/* The rows, as reads see them. */
bit revoked[2];
bit net_withdrawn;      /* the backend, on the list in the network's row */
byte net_stamp = 1;
byte node_list;         /* the operator's list */
byte node_stamp = 2;
bit recorded[2];        /* a replay record that a commit wrote, by token */
bit audited[2];         /* the audit record of a release, by token */

/* The rows that survive when the store loses what was not durable. */
bit d_revoked[2];
bit d_net_withdrawn;
byte d_net_stamp = 1;
byte d_node_list;
byte d_node_stamp = 2;
bit d_recorded[2];
bit d_audited[2];

byte last_stamp = 2;    /* stamps are unique, also after a loss (ST5) */
bit node_list_missing;  /* the row of the operator's list was deleted */
bit used[2];            /* replay records of first reads, in memory (ST4) */

/* The state of each process's commit. */
#define NONE 0
#define APPLIED 1
#define DURABLE 2
#define LOST 3
#define SLOTS 8
byte committed[SLOTS];

/* What was acknowledged to the people who asked for it. */
bit acked_revoked[2];
bit acked_net;
byte acked_node;
bit opened[2];          /* a key was sent, by token */
byte losses, restarts;

/* What must never be true. */
bit late;               /* a release after an acknowledged revocation or withdrawal */
bit twice;              /* two releases for one token */
bit unrecorded;         /* a key was sent, and the store has no record of it */
bit without_right;      /* a change by a session that was revoked or withdrawn before */

#define IS_FORBIDDEN (acked_revoked[PARENT] || acked_revoked[CHILD] || acked_net || (acked_node & (BACKEND | SESSION)))
#define SESSION_HAS_ENDED (acked_revoked[PARENT] || (acked_node & SESSION))

/* Nothing below this process decides anything: it makes commits durable, or loses them. */
proctype disk() {
  byte i;
end:
  do
  :: atomic {
       (committed[0] == APPLIED || committed[1] == APPLIED || committed[2] == APPLIED ||
        committed[3] == APPLIED || committed[4] == APPLIED || committed[5] == APPLIED ||
        committed[6] == APPLIED || committed[7] == APPLIED) ->
       printf("EVENT flush\n");
       d_revoked[0] = revoked[0]; d_revoked[1] = revoked[1];
       d_net_withdrawn = net_withdrawn; d_net_stamp = net_stamp;
       d_node_list = node_list; d_node_stamp = node_stamp;
       d_recorded[0] = recorded[0]; d_recorded[1] = recorded[1];
       d_audited[0] = audited[0]; d_audited[1] = audited[1];
       i = 0;
       do
       :: i < SLOTS -> if :: committed[i] == APPLIED -> committed[i] = DURABLE :: else fi; i++
       :: else -> break
       od;
       i = 0
     }
  :: atomic {
       losses < LOSSES -> losses++;
       printf("EVENT loss\n");
       revoked[0] = d_revoked[0]; revoked[1] = d_revoked[1];
       net_withdrawn = d_net_withdrawn; net_stamp = d_net_stamp;
       node_list = d_node_list; node_stamp = d_node_stamp;
       recorded[0] = d_recorded[0]; recorded[1] = d_recorded[1];
       audited[0] = d_audited[0]; audited[1] = d_audited[1];
       used[0] = 0; used[1] = 0;
       i = 0;
       do
       :: i < SLOTS -> if :: committed[i] == APPLIED -> committed[i] = LOST :: else fi; i++
       :: else -> break
       od;
       i = 0;
       unrecorded = (opened[0] && !audited[0]) || (opened[1] && !audited[1]);
       assert(!unrecorded)
     }
#ifdef DAMAGE
  :: atomic { !node_list_missing -> printf("EVENT damage\n"); node_list_missing = 1 }
#endif
  od
}

/* A worker that is asked for keys. */
proctype worker(byte w) {
  byte token, asks, saw_net, saw_node;
  bit is_first;

idle:
  if
  :: atomic {
       asks < ASKS -> asks++;
       saw_net = 0; saw_node = 0;                           /* so that equal states look equal */
       if :: token = 0 :: token = 1 fi;
       is_first = 1;
       printf("EVENT begin %d %d\n", w, token)
     }
  :: atomic { asks == ASKS -> saw_net = 0; saw_node = 0; token = 0; is_first = 0; goto done }
  fi;

attempt:
  atomic {                                                  /* one read of everything */
    if
    :: is_first && (used[token] || recorded[token]) ->      /* I12 */
#ifndef NO_USE_AT_READ
       printf("EVENT ask %d %d duplicate\n", w, token); goto idle
#else
       skip
#endif
    :: else
    fi;
    used[token] = 1;
#ifdef STALE_RETRY
    if :: !is_first -> saw_net = net_stamp; saw_node = node_stamp; goto commit :: else fi;
#endif
    is_first = 0;
    saw_net = net_stamp; saw_node = node_stamp;
#ifndef NO_MARKS_AT_READ
    if
    :: revoked[CHILD] || revoked[PARENT] ->                 /* I32 */
       printf("EVENT ask %d %d revoked\n", w, token); goto idle
    :: else
    fi;
#endif
#ifndef EMPTY_WHEN_MISSING
    if                                                      /* RC21 */
    :: node_list_missing -> printf("EVENT ask %d %d damaged\n", w, token); goto idle
    :: else
    fi;
#endif
#ifndef NO_NETWORK_LIST
    if :: net_withdrawn -> printf("EVENT ask %d %d withdrawn\n", w, token); goto idle :: else fi;
#endif
#ifndef NO_NODE_LIST
    if                                                      /* RC20 */
    :: !node_list_missing && (node_list & (BACKEND | SESSION)) ->
       printf("EVENT ask %d %d withdrawn\n", w, token); goto idle
    :: else
    fi;
#endif
    printf("EVENT ask %d %d judged\n", w, token)
  }

commit:
#ifdef OPEN_WITHOUT_COMMIT
  goto open;
#endif
  if
  :: atomic { restarts < RESTARTS -> restarts++; printf("EVENT restart %d\n", w); goto idle }
  :: atomic {                                               /* one commit */
       true ->
       if
       :: false
#ifndef NO_LIVE
       :: revoked[CHILD] -> goto refused                    /* ST2 */
#ifndef NO_LIVE_ANCESTORS
       :: revoked[PARENT] -> goto refused
#endif
#endif
#ifndef NO_NETWORK_STAMP
       :: net_stamp != saw_net -> goto refused              /* RC21 */
#endif
#ifndef NO_NODE_STAMP
#ifdef EMPTY_WHEN_MISSING
       :: !node_list_missing && node_stamp != saw_node -> goto refused
#else
       :: node_list_missing || node_stamp != saw_node -> goto refused
#endif
#endif
#ifndef NO_RECORD_AT_COMMIT
       :: recorded[token] -> goto refused                   /* I20 */
#endif
       :: else -> skip
       fi;
       printf("EVENT commit %d %d applied\n", w, token);
       late = IS_FORBIDDEN;
       assert(!late);
#ifndef NO_RECORD_AT_COMMIT
       recorded[token] = 1;
#endif
       audited[token] = 1;
       committed[w] = APPLIED;
       goto wait;
refused:
       printf("EVENT commit %d %d refused\n", w, token);
       goto again
     }
  fi;

again:
  if
  :: recorded[token] -> goto idle                           /* it gives up after a while (ST3) */
  :: !recorded[token] -> goto attempt
  fi;

wait:
  if
#ifdef OPEN_BEFORE_DURABLE
  :: committed[w] == APPLIED -> goto open
#endif
  :: committed[w] == DURABLE -> goto open
  :: atomic { committed[w] == LOST -> committed[w] = NONE; goto idle }
  :: atomic { restarts < RESTARTS -> restarts++; committed[w] = NONE; printf("EVENT restart %d\n", w); goto idle }
  fi;

open:
  atomic {
    printf("EVENT open %d %d\n", w, token);
#ifdef OPEN_WITHOUT_COMMIT
    late = IS_FORBIDDEN;
    assert(!late);
#endif
    twice = opened[token];
    assert(!twice);
    opened[token] = 1;
#ifndef OPEN_BEFORE_DURABLE
    committed[w] = NONE;
#endif
    goto idle
  }
done:
  skip
}

/* Somebody revokes a grant: the wallet, or the session with PARENT as its proof. */
proctype revoker(byte slot) {
  byte target;
  bit by_session, was_revoked;

  if :: target = PARENT :: target = CHILD fi;
  if :: by_session = 0 :: by_session = 1 fi;
attempt:
  atomic {
    if
    :: by_session && revoked[PARENT] -> printf("EVENT revoke %d refused\n", slot); goto done
    :: else
    fi;
    was_revoked = revoked[target];
    printf("EVENT revoke %d read %d %d %d\n", slot, target, by_session, was_revoked)
  }
#ifdef ACK_REPEAT_BY_READ
  if :: was_revoked -> goto acknowledged :: else fi;
#endif
  atomic {
    if
    :: false
#ifndef NO_LIVE_PROOF
    :: by_session && revoked[PARENT] -> goto again          /* W21, ST2 */
#endif
    :: was_revoked && !revoked[target] -> goto again        /* ST16 */
    :: else -> skip
    fi;
    printf("EVENT revoke %d applied\n", slot);
    without_right = by_session && SESSION_HAS_ENDED && !(acked_node & SESSION);
    assert(!without_right);
    revoked[target] = 1;
    committed[slot] = APPLIED;
    goto wait;
again:
    printf("EVENT revoke %d conflict\n", slot);
    goto attempt
  }
wait:
  if
  :: committed[slot] == DURABLE -> goto acknowledged
#ifdef ACK_BEFORE_DURABLE
  :: committed[slot] == APPLIED -> goto acknowledged
#endif
  :: committed[slot] == LOST -> goto done
  fi;
acknowledged:
  atomic { printf("EVENT revoke %d acknowledged\n", slot); acked_revoked[target] = 1 }
done:
  skip
}

/* The owner's session changes the network's row: it withdraws the backend, or writes a policy. */
proctype change(byte slot; bit is_withdrawal) {
  byte saw_net, saw_node;
  bit kept;

attempt:
  atomic {
    if
    :: revoked[PARENT] || node_list_missing || (node_list & SESSION) ->         /* RC22, RC31 */
       printf("EVENT change %d refused\n", slot); goto done
    :: else
    fi;
    saw_net = net_stamp; saw_node = node_stamp;
    kept = net_withdrawn;
    printf("EVENT change %d read %d\n", slot, is_withdrawal)
  }
  atomic {
    if
    :: false
#ifndef NO_LIVE_SESSION
    :: revoked[PARENT] -> goto again                        /* ST2 */
#endif
#ifndef NO_NODE_STAMP_OF_CHANGE
    :: node_list_missing || node_stamp != saw_node -> goto again    /* RC31 */
#endif
#ifndef NO_EXPECTED_NETWORK
    :: net_stamp != saw_net -> goto again
#endif
    :: else -> skip
    fi;
    printf("EVENT change %d applied\n", slot);
    without_right = SESSION_HAS_ENDED;
    assert(!without_right);
#ifdef POLICY_DROPS_LIST
    net_withdrawn = is_withdrawal;
#else
    net_withdrawn = kept || is_withdrawal;
#endif
    last_stamp++;
    net_stamp = last_stamp;
    committed[slot] = APPLIED;
    goto wait;
again:
    printf("EVENT change %d conflict\n", slot);
    goto attempt
  }
wait:
  if
  :: atomic { committed[slot] == DURABLE ->
       printf("EVENT change %d acknowledged\n", slot);
       if :: is_withdrawal -> acked_net = 1 :: else fi
     }
  :: committed[slot] == LOST -> skip
  fi;
done:
  skip
}

/* The operator adds an entry to the list of the whole node. */
proctype operator(byte slot; bit is_relevant) {
  byte entry, saw_node, kept;

  if
  :: !is_relevant -> entry = OTHER
  :: is_relevant -> entry = BACKEND
  :: is_relevant -> entry = SESSION
  fi;
attempt:
  atomic {
    if :: node_list_missing -> printf("EVENT withdraw %d refused\n", slot); goto done :: else fi;
    saw_node = node_stamp;
    kept = node_list;
    printf("EVENT withdraw %d read %d\n", slot, entry)
  }
  atomic {
    if
    :: false
    :: node_list_missing -> goto again
#ifndef NO_EXPECTED_LIST
    :: node_stamp != saw_node -> goto again
#endif
    :: else -> skip
    fi;
    printf("EVENT withdraw %d applied\n", slot);
    node_list = kept | entry;
    last_stamp++;
    node_stamp = last_stamp;
    committed[slot] = APPLIED;
    goto wait;
again:
    printf("EVENT withdraw %d conflict\n", slot);
    goto attempt
  }
wait:
  if
  :: atomic { committed[slot] == DURABLE ->
       printf("EVENT withdraw %d acknowledged\n", slot); acked_node = acked_node | entry }
  :: committed[slot] == LOST -> skip
  fi;
done:
  skip
}

init {
  atomic {
    run disk();
    run worker(0);
    run worker(1);
#ifdef REVOCATION
    run revoker(2);
    run revoker(3);
#endif
#ifdef WITHDRAWAL
    run change(4, 1);
    run change(5, 0);
#endif
#ifdef OPERATOR
    run operator(6, 1);
    run operator(7, 0);
#endif
#ifdef ONE_REVOKER
    run revoker(2);
#endif
#ifdef ONE_CHANGE
    run change(5, 0);
#endif
#ifdef ONE_WITHDRAWAL
    run change(4, 1);
#endif
#ifdef ONE_OPERATOR
    run operator(6, 1);
#endif
  }
}
