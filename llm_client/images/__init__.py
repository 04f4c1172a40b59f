"""Images out: made from words, or from other images.

service = create_image_service("openai:gpt-image-1")
result = await service.generate("a teal square")
paths = await save_images(result, "pictures")

service    the protocol, and what a request comes to
openai     the images API of OpenAI and those that speak it
dashscope  Qwen's image models
create     from a model string to a service
saving     into a folder
"""

from __future__ import annotations

from llm_client.images.create import create_image_service
from llm_client.images.dashscope import DashScopeImages
from llm_client.images.openai import OpenAIImages
from llm_client.images.saving import save_images
from llm_client.images.service import ImageService, ImagesResult

__all__ = [
    "DashScopeImages",
    "ImageService",
    "ImagesResult",
    "OpenAIImages",
    "create_image_service",
    "save_images",
]
