"""What the run page in the Prefect UI shows: tables made from references, the same on a fully cached run."""

from typing import Any

from prefect.artifacts import create_table_artifact

from flows.work import MADE_BY
from retrieval.evaluation_table import read_table
from storage.runs import RunRecord
from storage.store import Store


def show_stage(store: Store, record: RunRecord, stage: str) -> None:
    """Inside a flow: a table of what a stage made; of `evaluate` the result table as well."""
    create_table_artifact(
        key=f"{stage}-artifacts", table=artifact_rows(record, stage), description=f"What `{stage}` made"
    )
    if stage == "evaluate":
        for ref in record.refs_of("evaluation"):
            create_table_artifact(
                key="evaluate-results",
                table=result_rows(store, ref.path),
                description="mAP in %, geometry benchmark, interval over clusters",
            )


def artifact_rows(record: RunRecord, stage: str) -> list[dict[str, Any]]:
    """One row per kind of artifact: how many, how large, content of the first, where the first is."""
    rows = []
    for name in MADE_BY[stage]:
        refs = record.refs_of(name)
        if refs:
            rows.append(
                {
                    "artifact": name,
                    "files": len(refs),
                    "megabytes": round(sum(ref.bytes for ref in refs) / 2**20, 2),
                    "content": refs[0].content_sha256[:16],
                    "path": refs[0].path,
                }
            )
    return rows


def result_rows(store: Store, path: str) -> list[dict[str, Any]]:
    """One row per configuration and protocol."""
    return [
        {
            "network": row.network,
            "whitening": row.whitening,
            "scales": row.scales,
            "protocol": row.protocol,
            "mAP": round(100 * row.mean_average_precision.value, 2),
            "low": round(100 * row.mean_average_precision.low, 2),
            "high": round(100 * row.mean_average_precision.high, 2),
        }
        for row in read_table(store.root / path).rows
    ]
