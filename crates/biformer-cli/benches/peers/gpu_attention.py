"""Routed attention as one would write it in PyTorch today: the official layers, another core.

`gather_and_sdpa` copies the routed keys and values and calls torch's fused attention; `flex_core`
copies nothing and lets FlexAttention walk the region graph as a mask of blocks.
"""

from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention

# of query, key, value: [batch, regions, tokens, dim], graph: [batch, regions, topk], heads, scale
Core = Callable[..., Tensor]
FLEX_BLOCK = 64  # side of FlexAttention's tiles; a region as large as this has blocks of its own


class RoutedAttention(nn.Module):
    """The official module's layers around another core; padding and routing are the same."""

    def __init__(self, whole: Any, core: Core) -> None:
        super().__init__()
        self.qkv, self.lce, self.output = whole.qkv.qkv, whole.lepe, whole.wo
        self.num_heads, self.n_win, self.topk = whole.num_heads, whole.n_win, whole.topk
        self.scale, self.core = whole.scale, core

    def forward(self, x: Tensor) -> Tensor:  # [batch, height, width, dim]
        _, height, width, _ = x.shape
        side = self.n_win
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        sizes = dict(j=side, i=side, h=x.shape[1] // side, w=x.shape[2] // side)
        # [batch, regions, tokens, dim]
        x = rearrange(x, "n (j h) (i w) c -> n (j i) (h w) c", **sizes)
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        affinity = (query.mean(2) * self.scale) @ key.mean(2).mT  # [batch, regions, regions]
        graph = affinity.topk(self.topk).indices  # [batch, regions, topk]
        x = self.core(query, key, value, graph, self.num_heads, self.scale)
        x = rearrange(x, "n (j i) (h w) c -> n (j h) (i w) c", **sizes)
        value = rearrange(value, "n (j i) (h w) c -> n c (j h) (i w)", **sizes).contiguous()
        x = self.output(x + rearrange(self.lce(value), "n c h w -> n h w c"))
        return x[:, :height, :width].contiguous()


def gather_and_sdpa(
    q: Tensor, k: Tensor, v: Tensor, graph: Tensor, heads: int, scale: float
) -> Tensor:
    """Keys and values of the routed regions are copied side by side; a region is a picture."""
    batch, regions = graph.shape[:2]
    picture = torch.arange(batch, device=q.device)[:, None]
    k, v = (x[picture, graph.flatten(1)] for x in (k, v))  # [batch, regions · topk, tokens, dim]
    by_region = "n (r k) t (m c) -> (n r) m (k t) c"
    q, k, v = (rearrange(x, by_region, r=regions, m=heads) for x in (q, k, v))
    x = F.scaled_dot_product_attention(q, k, v, scale=scale)
    return rearrange(x, "(n r) m t c -> n r t (m c)", r=regions)


def flex_core(compiled_alone: bool) -> Core:
    """FlexAttention over tokens in the order of regions, large ones filled up to whole blocks."""
    flex = torch.compile(flex_attention, dynamic=False) if compiled_alone else flex_attention

    def core(
        q: Tensor, k: Tensor, v: Tensor, graph: Tensor, heads: int, scale: float
    ) -> Tensor:
        regions, tokens = q.shape[1:3]
        is_large = tokens >= FLEX_BLOCK
        padding = -tokens % FLEX_BLOCK if is_large else 0
        q, k, v = (F.pad(x, (0, 0, 0, padding)) for x in (q, k, v))
        q, k, v = (rearrange(x, "n r t (m c) -> n m (r t) c", m=heads) for x in (q, k, v))
        mask = (mask_of_large_regions if is_large else mask_of_small_regions)(graph, tokens)
        options = dict(block_mask=mask, scale=scale)
        if q.is_cuda:  # the CPU has tiles of its own
            tiles = dict(BLOCK_M=FLEX_BLOCK, BLOCK_N=FLEX_BLOCK, FORCE_USE_FLEX_ATTENTION=True)
            options |= dict(kernel_options=tiles)
        x = rearrange(flex(q, k, v, **options), "n m (r t) c -> n r t (m c)", r=regions)
        return x[:, :, :tokens]

    return core


def mask_of_large_regions(graph: Tensor, tokens: int) -> BlockMask:
    """Whole blocks of the routed regions; each region's last one is partial if it was filled up."""
    regions, topk = graph.shape[1:]
    blocks, whole = -(-tokens // FLEX_BLOCK), tokens // FLEX_BLOCK  # of a region
    space, length = blocks * FLEX_BLOCK, regions * blocks * FLEX_BLOCK
    block = torch.arange(blocks, device=graph.device)

    def listed(of_region: Tensor, used: int) -> tuple[Tensor, Tensor]:
        columns = (graph[..., None] * blocks + of_region).flatten(2)  # [batch, regions, columns]
        columns = columns.repeat_interleave(blocks, dim=1)[:, None].int()
        if not graph.is_cuda:  # the CPU wants room for all blocks
            columns = F.pad(columns, (0, regions * blocks - columns.shape[-1]))
        return torch.full_like(columns[..., 0], used * topk), columns

    return BlockMask.from_kv_blocks(
        *listed(block[-1:], blocks - whole),
        *listed(block[:whole], whole),
        BLOCK_SIZE=FLEX_BLOCK,
        mask_mod=lambda b, h, query, key: key % space < tokens,
        seq_lengths=(length, length),
        compute_q_blocks=False,
    )


def mask_of_small_regions(graph: Tensor, tokens: int) -> BlockMask:
    """Blocks hold several regions. They are partial, and left out where no region is routed."""
    regions, topk = graph.shape[1:]
    region = torch.arange(regions, device=graph.device)
    starts = torch.arange(0, regions * tokens, FLEX_BLOCK, device=graph.device)[:, None]
    touches = (region * tokens + tokens > starts) & (region * tokens < starts + FLEX_BLOCK)
    touches = touches.float()  # [blocks, regions]
    routed = (graph[..., None] == region).any(2).float()  # [batch, regions, regions]
    with torch.autocast(graph.device.type, enabled=False):
        pairs = touches @ routed @ touches.mT > 0  # [batch, blocks, blocks]

    def is_routed(b: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        # Not a look-up in `routed`: what the compiler has fused away cannot be read from here.
        routes = (graph[b, query // tokens, route] == key // tokens for route in range(topk))
        return reduce(or_, routes)

    return BlockMask.from_kv_blocks(
        pairs.sum(-1, dtype=torch.int32)[:, None],
        pairs.int().argsort(dim=-1, descending=True)[:, None].int(),
        BLOCK_SIZE=FLEX_BLOCK,
        mask_mod=is_routed,
        seq_lengths=(regions * tokens, regions * tokens),
        compute_q_blocks=False,
    )
