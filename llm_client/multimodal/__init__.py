"""Images, sound and files in requests: what they are, and what of them a model can be sent.

part = await load_attachment("report.pdf")
service = FittingMedia(service, media_limits("anthropic"), capabilities("anthropic", model))

attach     from a path, bytes or an address to a part; sniff: what bytes are
limits     what providers take, as data
plan       what becomes of one attachment, pure
fit        and of all those of a request; service: of all requests
resizing   the only user of Pillow (extra `images`)
pdf        the only user of pypdf (extra `pdf`)
"""

from __future__ import annotations

from llm_client.multimodal.attach import Attachment, attachment, load_attachment
from llm_client.multimodal.errors import AttachmentTooLarge, AttachmentUnreadable
from llm_client.multimodal.fit import Fitted, fit_request
from llm_client.multimodal.limits import MediaLimits, media_limits
from llm_client.multimodal.service import FittingMedia

__all__ = [
    "Attachment",
    "AttachmentTooLarge",
    "AttachmentUnreadable",
    "Fitted",
    "FittingMedia",
    "MediaLimits",
    "attachment",
    "fit_request",
    "load_attachment",
    "media_limits",
]
