"""In-memory cache of images that clients upload and download by id; the oldest are evicted first."""

from __future__ import annotations

from uuid import uuid4

LIMIT = 100 * 1024 * 1024


class ImageCache:
    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._images: dict[str, tuple[bytes, str]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._images

    def add(self, data: bytes, content_type: str) -> str:
        key = uuid4().hex
        self.insert(key, data, content_type)
        return key

    def insert(self, key: str, data: bytes, content_type: str) -> None:
        self._images[key] = (data, content_type)
        total = sum(len(image) for image, _ in self._images.values())
        for old in list(self._images)[:-1]:
            if total <= self._limit:
                break
            total -= len(self._images.pop(old)[0])

    def get(self, key: str) -> tuple[bytes, str] | None:
        return self._images.get(key)


CACHE = ImageCache()
