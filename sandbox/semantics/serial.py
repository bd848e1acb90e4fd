"""Vectors and results as JSON."""

from __future__ import annotations

from typing import Any

from sandbox.semantics.compare import Divergence
from sandbox.semantics.vector import SELECTORS, Fault, Fpu, Result, Vector


def fpu_to_dict(fpu: Fpu | None) -> dict[str, Any] | None:
    if fpu is None:
        return None
    words = {name: getattr(fpu, name) for name in ("control", "status", "tags", "mxcsr")}
    return {**words, "stack": fpu.stack.hex(), "xmm": fpu.xmm.hex()}


def fpu_from_dict(data: dict[str, Any] | None) -> Fpu | None:
    if data is None:
        return None
    return Fpu(**{**data, "stack": bytes.fromhex(data["stack"]), "xmm": bytes.fromhex(data["xmm"])})


def vector_to_dict(vector: Vector) -> dict[str, Any]:
    return {
        "form": vector.form,
        "code": vector.code.hex(),
        "eip": vector.eip,
        "registers": list(vector.registers),
        "eflags": vector.eflags,
        "memory": [[address, data.hex()] for address, data in vector.memory],
        "fpu": fpu_to_dict(vector.fpu),
        "operand": vector.operand,
        "selectors": list(vector.selectors),
        "absent": [list(each) for each in vector.absent],
        "forked": vector.forked,
        "writes_code": vector.writes_code,
    }


def vector_from_dict(data: dict[str, Any]) -> Vector:
    memory = tuple((address, bytes.fromhex(text)) for address, text in data["memory"])
    return Vector(
        data["form"],
        bytes.fromhex(data["code"]),
        data["eip"],
        tuple(data["registers"]),
        data["eflags"],
        memory,
        fpu_from_dict(data["fpu"]),
        data["operand"],
        tuple(data.get("selectors", SELECTORS)),
        tuple((address, left) for address, left in data.get("absent", ())),
        data.get("forked", 0),
        data.get("writes_code", False),
    )


def result_to_dict(result: Result) -> dict[str, Any]:
    fault = result.fault
    return {
        "registers": list(result.registers),
        "eip": result.eip,
        "eflags": result.eflags,
        "selectors": list(result.selectors),
        "written": [list(each) for each in result.written],
        "fault": fault and {"vector": fault.vector, "error": fault.error, "address": fault.address},
        "fpu": fpu_to_dict(result.fpu),
        "restarts": [result_to_dict(each) for each in result.restarts],
        "other": [list(each) for each in result.other],
    }


def result_from_dict(data: dict[str, Any]) -> Result:
    return Result(
        tuple(data["registers"]),
        data["eip"],
        data["eflags"],
        tuple(data["selectors"]),
        tuple((address, value) for address, value in data["written"]),
        Fault(**data["fault"]) if data["fault"] else None,
        fpu_from_dict(data["fpu"]),
        tuple(result_from_dict(each) for each in data.get("restarts", ())),
        tuple((address, value) for address, value in data.get("other", ())),
    )


def divergence_to_dict(divergence: Divergence) -> dict[str, Any]:
    return {
        "parts": list(divergence.parts),
        "cause": divergence.cause,
        "vector": vector_to_dict(divergence.vector),
        "theirs": result_to_dict(divergence.theirs),
        "ours": result_to_dict(divergence.ours),
    }


def divergence_from_dict(data: dict[str, Any]) -> Divergence:
    return Divergence(
        vector_from_dict(data["vector"]),
        result_from_dict(data["theirs"]),
        result_from_dict(data["ours"]),
        tuple(data["parts"]),
        data["cause"],
    )
