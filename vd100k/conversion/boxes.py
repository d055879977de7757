"""Rows with boxes, written as the model to be trained writes boxes itself."""

from __future__ import annotations

import contextlib

from vd100k.boxes import frames
from vd100k.boxes.box import Box, BoxError, Size, checked, from_row
from vd100k.boxes.notations import Frame
from vd100k.config.run import Run
from vd100k.conversion.filters import RejectedRow
from vd100k.conversion.images import TrainingImage
from vd100k.images.encode import ImageError, upright_size
from vd100k.io.jsonl import Row

REF, BBOX = "<ref-object>", "<bbox>"  # what ms-swift replaces by labels and boxes


class BoxWriter:
    """Checks the boxes of rows, and replaces the answers by the boxes in the notation of the model to be trained.

    A row without ``boxes`` has them in its answer, in that notation. Rows of tasks that do not ask for boxes are left
    as they are.
    """

    def __init__(self, run: Run, rejects: bool) -> None:
        """``rejects`` says whether rows with bad boxes are rejected; otherwise they keep their answers."""
        self._frame = frames.of(run.model) if run.task.reader == "boxes" else None
        self._rejects = rejects

    def write(self, row: Row, image: TrainingImage) -> None:
        """Set the ``answer`` of a row; for ms-swift also ``objects``, and the answer with ``placeholders`` for them.

        Raises:
            RejectedRow: a box cannot be right, or cannot be written.
        """
        if self._frame is None:
            return
        try:
            size = image.size or upright_size(image.path)
            boxes = [checked(box, size) for box in self._boxes(self._frame, row, size)]
            row["answer"] = self._frame.write(boxes, size)
        except (BoxError, ImageError) as error:
            if self._rejects:
                raise RejectedRow("bad_box", str(error)) from None
            return
        if "rejected" in row:
            with contextlib.suppress(BoxError):  # a rejected answer may be wrong in any way
                row["rejected"] = self._frame.write(from_row(row.get("rejected_boxes")), size)
        elif boxes:
            row |= _for_swift(self._frame, boxes)

    @staticmethod
    def _boxes(frame: Frame, row: Row, size: Size) -> list[Box]:
        return frame.read(row["answer"], size) if row.get("boxes") is None else from_row(row["boxes"])


def _for_swift(frame: Frame, boxes: list[Box]) -> Row:
    """ms-swift scales the boxes itself and puts the marks of the family around labels and boxes.

    Its templates of Qwen2.5-VL and Qwen3-VL write the marks of Qwen2-VL, unless QWENVL_BBOX_FORMAT=new. Source:
    swift/template/templates/qwen.py and ``normalize_bbox`` in swift/template/base.py, ms-swift 4.6.
    """
    notation = frame.notation
    # In JSON, a label stands within quotation marks, and ms-swift writes it there as it is.
    labels = [notation.label_text(box.label) if notation.is_json else box.label for box in boxes]
    objects = {"ref": labels, "bbox": [list(box.corners) for box in boxes], "bbox_type": "real"}
    return {"objects": objects, "placeholders": notation.listing([REF] * len(boxes), [BBOX] * len(boxes))}
