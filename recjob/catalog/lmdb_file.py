"""Reading LMDB files, each number in them checked before it is used.

The library `lmdb` trusts its file: where a page is damaged it reads beyond the mapping or runs
into an assertion, and the process dies without a word. A data set that was copied over a bad disk
must be a message instead. So this reads the format itself (lmdb.tech, data version 1, as 64-bit
little-endian machines write it): a B+ tree of pages, keys in order of their bytes.
"""

from __future__ import annotations

import os
import struct
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAGIC: Final = 0xBEEFC0DE
VERSION: Final = 1
PAGE_SIZES: Final = tuple(2**power for power in range(8, 17))
NO_PAGE: Final = 2**64 - 1
MAX_DEPTH: Final = 32
"""LMDB's own limit; a longer way down runs in a circle."""

_META: Final = struct.Struct("<10xH4xIIQQ")
"""Flags of the page, then magic, version, address and size of the mapping."""
_TREE: Final = struct.Struct("<IHHQQQQQ")
"""Pad (of the first tree: the page size), flags, depth, pages of three kinds, entries, root."""
_META_END: Final = struct.Struct("<QQ")
"""Last page and transaction."""
_PAGE: Final = struct.Struct("<8x2xHHH")
"""Flags, and where the free room begins and ends."""
_OVERFLOW: Final = struct.Struct("<8x2xHI")
"""Flags, and number of pages."""
_NODE: Final = struct.Struct("<HHHH")
"""Low and high half of a size or page, flags, length of the key."""
_POINTER: Final = struct.Struct("<H")
_BIG: Final = struct.Struct("<Q")
_IS_BRANCH, _IS_LEAF, _IS_OVERFLOW, _IS_META = 0x01, 0x02, 0x04, 0x08
_IN_OVERFLOW: Final = 0x01
_HEADER: Final = 16


class LmdbFileError(Exception):
    """A file that is no LMDB file, or damaged; in one line."""


@dataclass(frozen=True)
class _Page:
    data: bytes
    flags: int
    count: int
    """Nodes."""

    def node(self, number: int) -> tuple[int, int, int, bytes, int]:
        """Low half, high half, flags, key, and where what follows the key begins."""
        (start,) = _POINTER.unpack_from(self.data, _HEADER + _POINTER.size * number)
        if not _HEADER <= start <= len(self.data) - _NODE.size:
            raise LmdbFileError("is damaged: a node lies outside its page")
        low, high, flags, length = _NODE.unpack_from(self.data, start)
        start += _NODE.size
        key = self.data[start : start + length]
        if len(key) < length:
            raise LmdbFileError("is damaged: a key lies outside its page")
        return low, high, flags, key, start + length


class LmdbFile:
    """The main table of an LMDB file that nobody writes; for several threads at once.

    Every method raises LmdbFileError where the file is damaged, OSError where it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._page_size, self._root, last = self._newest_meta()
        self._size = os.fstat(self._descriptor).st_size
        wanted = (last + 1) * self._page_size
        if self._size < wanted:
            raise LmdbFileError(f"is cut short at {self._size} of {wanted} bytes; copy it again")

    def find(self, key: bytes) -> tuple[int, int] | None:
        """Where the value of `key` lies: first byte and length; None where there is none."""
        number = self._root
        if number == NO_PAGE:
            return None
        for _ in range(MAX_DEPTH):
            page = self._tree_page(number)
            place = self._search(page, key)
            if page.flags & _IS_LEAF:
                return self._value(number, page, place, key)
            low, high, flags, _, _ = page.node(place)
            number = low | high << 16 | flags << 32
        raise LmdbFileError("is damaged: its pages lead in a circle")

    def read(self, start: int, length: int) -> bytes:
        """The bytes that `find` told of."""
        data = os.pread(self._descriptor, length, start)
        if len(data) < length:
            raise LmdbFileError("is damaged: a value lies behind its end")
        return data

    def _newest_meta(self) -> tuple[int, int, int]:
        """Page size, root and last page of the newer of the two pages that begin the file."""
        first = self._meta(0)
        page_size = first[0] if first else next(filter(self._meta, PAGE_SIZES), 0)
        found = [meta for meta in (first, self._meta(page_size)) if meta]
        if not found:
            raise LmdbFileError("is no LMDB file")
        page_size, root, last, _ = max(found, key=lambda meta: meta[3])
        return page_size, root, last

    def _meta(self, start: int) -> tuple[int, int, int, int] | None:
        """Page size, root, last page and transaction at `start`; None where no such page is."""
        data = os.pread(self._descriptor, _META.size + 2 * _TREE.size + _META_END.size, start)
        if len(data) < _META.size + 2 * _TREE.size + _META_END.size:
            return None
        page_flags, magic, version, _, _ = _META.unpack_from(data)
        page_size = _TREE.unpack_from(data, _META.size)[0]
        _, flags, *_, root = _TREE.unpack_from(data, _META.size + _TREE.size)
        last, transaction = _META_END.unpack_from(data, _META.size + 2 * _TREE.size)
        sound = page_flags & _IS_META and (magic, version) == (MAGIC, VERSION)
        # A table of other flags orders its keys in another way; data sets have none.
        if not sound or page_size not in PAGE_SIZES or flags:
            return None
        return page_size, root, last, transaction

    def _tree_page(self, number: int) -> _Page:
        if number >= self._size // self._page_size:
            raise LmdbFileError("is damaged: a page lies behind its end")
        data = self.read(number * self._page_size, self._page_size)
        flags, lower, upper = _PAGE.unpack_from(data)
        kind = flags & (_IS_BRANCH | _IS_LEAF | _IS_OVERFLOW | _IS_META)
        if kind not in (_IS_BRANCH, _IS_LEAF) or not _HEADER <= lower <= upper <= len(data):
            raise LmdbFileError("is damaged: a page is not what it should be")
        count = (lower - _HEADER) // _POINTER.size
        if kind == _IS_BRANCH and not count:
            raise LmdbFileError("is damaged: a page leads nowhere")
        return _Page(data, kind, count)

    @staticmethod
    def _search(page: _Page, key: bytes) -> int:
        """Leaf: the first node that is not before `key`; branch: the last that is not behind it."""
        branch = page.flags & _IS_BRANCH
        # The first node of a branch stands for all keys before the second: it has none.
        low, high = (1 if branch else 0), page.count
        while low < high:
            middle = (low + high) // 2
            found = page.node(middle)[3]
            if found < key or (branch and found == key):
                low = middle + 1
            else:
                high = middle
        return low - 1 if branch else low

    def _value(self, number: int, page: _Page, place: int, key: bytes) -> tuple[int, int] | None:
        if place == page.count:
            return None
        low, high, flags, found, start = page.node(place)
        if found != key:
            return None
        length = low | high << 16
        if flags == 0:
            if start + length > len(page.data):
                raise LmdbFileError("is damaged: a value lies outside its page")
            return number * self._page_size + start, length
        if flags != _IN_OVERFLOW or start + _BIG.size > len(page.data):
            raise LmdbFileError("is damaged: a value is not what it should be")
        (first,) = _BIG.unpack_from(page.data, start)
        if first >= self._size // self._page_size:
            raise LmdbFileError("is damaged: a value lies behind its end")
        header = self.read(first * self._page_size, _HEADER)
        page_flags, pages = _OVERFLOW.unpack_from(header)
        if not page_flags & _IS_OVERFLOW or _HEADER + length > pages * self._page_size:
            raise LmdbFileError("is damaged: a value is not what it should be")
        return first * self._page_size + _HEADER, length
