"""Reads W&B's offline record of a run back, by W&B's own protobuf class."""

import json
import struct
import time

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768  # the record file is LevelDB's log format: blocks of pieces, each with checksum, length and type
FULL, LAST = 1, 4  # between them FIRST and MIDDLE pieces


def records(folder):
    """Every record that W&B kept of a closed run, read back by W&B's own protobuf class."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    patience = time.monotonic() + 30
    found = list(parse(file.read_bytes()))
    # W&B's service writes the end of a run after Run.finish has returned.
    while not any(record.HasField("exit") for record in found):
        assert time.monotonic() < patience, f"{file} has no end"
        time.sleep(0.05)
        found = list(parse(file.read_bytes()))
    return found


def parse(data):
    assert data.startswith(b":W&B")
    position, pieces = 7, b""  # behind the file's own header
    while position + 7 <= len(data):
        if (rest := BLOCK - position % BLOCK) < 7:
            position += rest
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        if position + 7 + length > len(data):  # being written
            return
        pieces += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(pieces)
            yield record
            pieces = b""


def rows(folder):
    """The history: one mapping a row."""
    for record in records(folder):
        if record.HasField("history"):
            yield {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item} | {
                "_step": record.history.step.num
            }
