"""Expectations of iExec's users of secrets, tasks and data sets, and the vectors of its formats.

`spec/iexec-cases.md` shows them, each with the tests that name its id as `iexec-<id>`, or with the
reason why it has no test.
"""

CASES: dict[str, tuple[tuple[str, str], ...]] = {
    "Secrets": (
        ("S1", "the owner pushes a secret, and it exists then"),
        ("S2", "the same value again, and another value, are refused; the first is delivered"),
        ("S3", "signatures of another signer, value, name or address, and malformed ones"),
        ("S4", "a wrong signature comes before a size"),
        ("S5", "4,096 bytes of UTF-8 are the limit"),
        ("S6", "names of requesters' secrets"),
        ("S7", "two names of a requester that differ in case are two secrets"),
        ("S8", "names of wallets' secrets ignore case"),
        ("S9", "an address in another case is the same address"),
        ("S10", "replacing an absent secret, with another value, with the same value"),
        ("S11", "existence: absent, present, malformed"),
        ("S12", "two requesters use one name"),
        ("S13", "a secret exists as soon as it is pushed"),
        ("S14", "of two creates at once one succeeds"),
        ("S15", "a failure of the store is no conflict"),
        ("S16", "challenges and signatures byte for byte"),
        ("S17", "no route returns a value"),
        ("S18", "blank values, spaces, line ends, NUL and emoji"),
    ),
    "Authorisation of tasks": (
        ("T1", "the codes of a session"),
        ("T2", "a worker's and a scheduler's signature"),
        ("T3", "a task that has ended"),
        ("T4", "a task without a data set has no variables of one"),
        ("T5", "a data set without a key"),
        ("T6", "one of two secrets is missing"),
        ("T7", "indexes that are not positive integers"),
        ("T8", "a wrong index with a name that a right one has"),
        ("T9", "one name at two indexes"),
        ("T10", "another requester with the same mapping"),
        ("T11", "what each stage sees"),
        ("T12", "a result with and without a beneficiary's key"),
        ("T13", "a result for a contract"),
        ("T14", "whose storage token is used"),
        ("T15", "a list of data sets, one of them revoked"),
        ("T16", "an unknown framework, or an unknown version"),
        ("T17", "a task's challenge, twice, and after its end"),
        ("T18", "unknown parameters, malformed JSON"),
        ("T19", "another measurement, a debug enclave, a challenge that was used"),
        ("T20", "a revocation between the making and the start of a task"),
        ("T21", "a limit of uses, and two tasks at once"),
    ),
    "Data": (
        ("D1", "decryption: the vector, and each fault"),
        ("D2", "the address of a data set does not answer"),
        ("D3", "several variables are missing"),
        ("D4", "`computed.json` absent, unparsable, or naming a wrong path"),
        ("D5", "digests of a file and of folders"),
        ("D6", "names of 31 and 32 characters"),
        ("D7", "a result is decrypted with the right and with a wrong key"),
        ("D8", "the report to a worker"),
    ),
    "Vectors": (
        ("V1", "8.1 the address of the first key"),
        ("V2", "8.1 the address of the second key"),
        ("V3", "8.2 the challenge and signature of a requester's secret"),
        ("V4", "8.2 the challenge and signature of an application's secret"),
        ("V5", "8.2 the challenge and signature of a data set's secret"),
        ("V6", "8.2 the request of a TEE challenge, and its signature"),
        ("V7", "8.2 the hash of a session, and the signatures of pool and worker"),
        ("V8", "8.2 the hash with an empty address and an odd number of digits"),
        ("V9", "8.3 the blob of a data set, and its checksum"),
        ("V10", "8.3 the name of an input file"),
        ("V11", "8.3 a stored secret in AES-ECB, the former format"),
        ("V12", "8.4 the digest of a file"),
        ("V13", "8.4 the hash of a result"),
        ("V14", "8.4 the seal of a result"),
        ("V15", "8.4 the hash of both, and the signature of the enclave"),
        ("V16", "8.4 the digest of callback data"),
        ("V17", "8.4 the digest of a folder"),
        ("V18", "8.4 the id of a task, from that of its deal"),
    ),
}

_NO_CHAIN = "there is no chain: the grants of the owners are the orders"
_NO_SESSION = (
    "there are no sessions of a worker: the runner attests to the node, and reads each secret under"
    " its owner's grant"
)

_NO_WORKER = "there is no chain and no worker: the signed receipt of a run proves its result"

NOT_OFFERED: dict[str, str] = {
    "T1": _NO_SESSION,
    "T2": _NO_SESSION,
    "T3": "a task is started once, by the runner that accepted it",
    "T13": _NO_CHAIN,
    "T14": "results stay on the runner until they are downloaded; no storage provider is called",
    "T15": "a task has at most one data set",
    "T16": _NO_SESSION,
    "T17": "the runner makes the key of its receipts itself, and its quote is for that key",
    "T19": "the node judges the evidence of a runner: see the rules AT and RL in conformance",
    "T21": "grants have no number of uses; they end, and are revoked",
    "D3": "the runner sets all variables itself",
    "D8": "there is no worker: a task's requester asks the runner for its state",
    "V6": _NO_SESSION,
    "V7": _NO_SESSION,
    "V10": "a task has no input files: `IEXEC_INPUT_FILES_NUMBER` is 0",
    "V11": "secrets are stored as envelopes, sealed to a network of their owner",
    "V13": _NO_WORKER,
    "V14": _NO_WORKER,
    "V15": _NO_WORKER,
    "V18": "there is no chain: the ids of deal and task are made from that of the runner's job",
}
"""Id of a case -> why it has no test."""
