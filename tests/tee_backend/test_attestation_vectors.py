"""Genuine, tampered and minted quotes, with the answers that a server has to give."""

import json
from dataclasses import dataclass
from typing import Any

import dcap_qvl
import pytest
from quote_verification import verify_quote
from tests_support import SHARED_VECTORS, shared_vectors

from capabilities.principals import parse_principal
from encryption_network.judgement import judge
from encryption_network.policy import Evidence, Policy
from tee_backend.attestation.attestation_errors import AttestationError, QuoteRefused
from tee_backend.attestation.collateral import parse_collateral
from tee_backend.attestation.examine import BoundQuote, examine
from tee_backend.attestation.quote import BodyKind, parse_quote
from tee_backend.attestation.report_data import Binding
from tee_backend.attestation.trust_root import intel_root, parse_trust_root

HOLDER = parse_principal("did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH")

# Where the set leaves the answer open: a document no longer holds at the second that it names as
# its end.
PINNED = {"at_next_update_exactly": "collateral-window"}

REFUSED_BY_THE_PARSER = {
    "quotes/v3_sgx_00a0_dcapqvl.bin",  # SGX
    "quotes/v4_td10_intel_synthetic.bin",  # authentication data of length zero, random header
    "quotes/v4_td10_5080_gotdx_spr_e4.bin",  # 39 bytes of text follow the quote
}


@dataclass(frozen=True)
class Case:
    """A case of the manifest."""

    name: str
    quote: str
    collateral: str
    root: str
    now: float
    server_must: str
    library: dict[str, Any]

    @property
    def must_accept(self) -> bool:
        return self.server_must.startswith("accept") and self.name not in PINNED


def _cases() -> list[Case]:
    manifest = SHARED_VECTORS / "tdx" / "manifest.json"
    if not manifest.is_file():
        return []
    listed = json.loads(manifest.read_text())["cases"]
    return [
        Case(
            c["name"],
            c["quote"],
            c["collateral"],
            c["root"],
            c["now"],
            c["server_must"],
            c["dcap_qvl_0_7_0"],
        )
        for c in listed
    ]


CASES = _cases()
GENUINE = [case for case in CASES if case.quote.startswith(("quotes/", "negative/"))]
MINTED = [case for case in CASES if case.quote.startswith("minted/")]


def _read(name: str) -> bytes:
    return shared_vectors(f"tdx/{name}").read_bytes()


def _verify(case: Case) -> Evidence:
    collateral = parse_collateral(_read(case.collateral))
    return verify_quote(
        _read(case.quote), collateral, root=parse_trust_root(_read(case.root)), now=case.now
    )


def _policy_of(case: Case) -> Policy:
    """Return the default policy, with a minimum evaluation number if the expected answer needs
    one."""
    return (
        Policy(min_evaluation_number=17)
        if "minimum evaluation number" in case.server_must
        else Policy()
    )


def _refusal(case: Case) -> str | None:
    """Return the code of the refusal by verification or policy; None if the quote is accepted."""
    root = parse_trust_root(_read(case.root))
    try:
        quote = parse_quote(_read(case.quote))
        binding = Binding(
            report_data=quote.report.report_data, holder=HOLDER, receiver_public_key=bytes(32)
        )
        collateral = parse_collateral(_read(case.collateral))
        evidence = examine(BoundQuote(quote, binding, None), collateral, root=root, now=case.now)
    except AttestationError as refused:
        return refused.code
    return judge(evidence, _policy_of(case), case.now)


@pytest.mark.shared
def test_every_case_is_run() -> None:
    """The tests below run all 97 genuine and tampered cases and all 31 minted ones."""
    assert len(GENUINE) == 97
    assert len(MINTED) == 31
    assert len(CASES) == len({case.name for case in CASES})


@pytest.mark.shared
@pytest.mark.parametrize("case", GENUINE, ids=[case.name for case in GENUINE])
def test_genuine_and_tampered(case: Case) -> None:
    """A genuine or tampered quote gets the listed answer under the default policy."""
    refusal = _refusal(case)
    assert case.must_accept == (refusal is None)
    assert PINNED.get(case.name, refusal) == refusal


@pytest.mark.shared
@pytest.mark.parametrize("case", MINTED, ids=[case.name for case in MINTED])
def test_minted(case: Case) -> None:
    """A quote under a test root gets the listed answer if that root is configured."""
    refusal = _refusal(case)
    assert case.must_accept == (refusal is None), refusal


@pytest.mark.shared
def test_refusals_are_mapped() -> None:
    """Every library error in these cases is in our table."""
    unknown = {"attestation", "evidence-invalid", "evidence-refused", "verdict-unknown"}
    assert [] == [case.name for case in CASES if _refusal(case) in unknown]


@pytest.mark.shared
def test_the_library_answers_as_recorded() -> None:
    """The library's own verdict on every case is unchanged; a change would alter our security
    policy."""
    for case in CASES:
        documents = dcap_qvl.QuoteCollateralV3.from_json(_read(case.collateral).decode())
        try:
            report = dcap_qvl.verify_with_root_ca(
                _read(case.quote), documents, _read(case.root), case.now
            )
            answer = {"accepted": True, "status": report.status, "advisories": report.advisory_ids}
        except ValueError:
            answer = {"accepted": False}
        recorded = {name: value for name, value in case.library.items() if name != "error"}
        assert recorded == answer, case.name


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("expired_by_1s", "collateral-window"),
        ("not_yet_valid", "collateral-window"),
        ("collateral_pck_crl_stale", "collateral-window"),
        ("minted_collateral_pck_crl_from_the_future", "collateral-window"),
        ("wrong_fmspc_collateral", "collateral-mismatch"),
        ("sgx_collateral_for_tdx_quote", "collateral-mismatch"),
        ("other_quotes_pck_chain_in_collateral", "collateral-mismatch"),
        ("minted_collateral_pceid_mismatch", "collateral-mismatch"),
        ("collateral_tcb_sig_flip", "collateral-signature"),
        ("collateral_tcb_info_reserialised", "collateral-signature"),
        ("collateral_pck_crl_empty", "collateral-malformed"),
        ("tdx_collateral_for_sgx_quote", "unsupported"),
        ("outer_cert_type_7", "unsupported"),
        ("truncated", "malformed"),
        ("trailing_garbage", "malformed"),
        ("tamper_mrtd", "quote-signature"),
        ("spliced", "quote-signature"),
        ("tamper_qe_auth_data", "qe-binding"),
        ("tamper_qe_report_mrsigner", "qe-binding"),
        ("v4_td10_b0c0_tappd+b0c0_2025-06", "tcb-too-old"),
        ("v4_td10_5080_trustee4_DEBUG+5080_2023-06_gotdx", "td-attributes"),
        ("minted_v4_xfam_zero", "td-attributes"),
        ("minted_v4_perfmon", "attributes"),
        ("minted_collateral_pck_revoked", "revoked"),
        ("minted_collateral_tcb_signer_revoked", "revoked"),
        ("minted_collateral_Revoked", "revoked"),
        ("v4_td10_90c0_dstack_lite+90c0_2026-02", "certificate-chain"),
        ("minted_against_intel_root", "untrusted-root"),
        ("genuine_against_test_root", "untrusted-root"),
        ("v4_td10_b0c0_dcapqvl+b0c0_2026-08_eval20", "tcb_status"),
        ("minted_collateral_sa_advisory_UpToDate", "advisory"),
        ("minted_collateral_eval_number_3", "evaluation"),
    ],
)
def test_reason(name: str, code: str) -> None:
    """A refusal has the code of its reason."""
    (case,) = (case for case in CASES if case.name == name)
    assert code == _refusal(case)


@pytest.mark.shared
def test_a_respelled_signature_is_the_same_statement() -> None:
    """A quote and its twin with the other valid signature have the same digest."""
    twin = parse_quote(_read("negative/quote_malleated_s.bin"))
    genuine = parse_quote(_read("quotes/v4_td10_b0c0_nearmpc_dstack.bin"))
    assert genuine.raw != twin.raw
    assert genuine.statement_sha256 == twin.statement_sha256


@pytest.mark.shared
def test_parser_reads_the_listed_fields() -> None:
    """Sixteen quotes are parsed to the listed fields; SGX, synthetic and text-suffixed ones are
    refused."""
    listed = json.loads(_read("manifest.json"))["quotes"]
    parsed = 0
    for entry in listed.values():
        if entry["file"] in REFUSED_BY_THE_PARSER:
            with pytest.raises(QuoteRefused, match=r"^(unsupported|malformed)$"):
                parse_quote(_read(entry["file"]))
            continue
        quote = parse_quote(_read(entry["file"]))
        report = quote.report
        kinds = {
            "TdReport10": BodyKind.TD10,
            "TdReport15": BodyKind.TD15,
            "TdReport15Ex": BodyKind.TD15_EXTENDED,
        }
        head = 48 if quote.version == 4 else 54
        assert entry["quote_version"] == quote.version
        assert kinds[entry["body"]].value == len(quote.signed_bytes) - head
        assert bytes.fromhex(entry["fmspc"]) == quote.platform.fmspc
        assert entry["pck_ca"] == quote.platform.ca
        pairs = (
            ("tee_tcb_svn", report.tee_tcb_svn),
            ("mr_seam", report.mr_seam),
            ("td_attributes", report.td_attributes),
            ("xfam", report.xfam),
            ("mr_td", report.mrtd),
            ("mr_config_id", report.mr_config_id),
            ("rt_mr0", report.rtmr0),
            ("rt_mr1", report.rtmr1),
            ("rt_mr2", report.rtmr2),
            ("rt_mr3", report.rtmr3),
            ("report_data", report.report_data),
        )
        for name, value in pairs:
            assert bytes.fromhex(entry[name]) == value, (entry["file"], name)
        parsed += 1
    assert parsed == 16


@pytest.mark.shared
def test_padding_is_dropped() -> None:
    """A quote that a cloud padded with zeros to 8000 bytes is parsed without its padding."""
    padded = _read("quotes/v4_td10_0080_cos113_padded8000.bin")
    quote = parse_quote(padded)
    assert len(padded) == 8000
    assert len(quote.raw) == 4935


@pytest.mark.shared
def test_packaged_root_is_the_published_one() -> None:
    """The packaged root equals the reference copy of the published certificate."""
    assert _read("certs/intel_sgx_root_ca.der") == intel_root().certificate.der
