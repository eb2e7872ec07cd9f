//! Regions and their tokens on the device.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use crate::RegionGrid;

/// A [`RegionGrid`] on the device.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Grid {
    /// Without padding.
    height: u32,
    width: u32,
    cols: u32,
    region_height: u32,
    region_width: u32,
}

impl Grid {
    pub fn launch(grid: &RegionGrid) -> GridLaunch {
        GridLaunch::new(
            grid.height as u32,
            grid.width as u32,
            grid.cols as u32,
            grid.region_height as u32,
            grid.region_width as u32,
        )
    }
}

/// The token and head of a unit.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Place {
    pub image: usize,
    pub region: usize,
    pub head: usize,
    pub y: usize,
    pub x: usize,
}

/// Rows and columns of the tokens of a region.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Region {
    pub top: usize,
    pub left: usize,
    pub bottom: usize,
    pub right: usize,
}

#[cube]
impl Grid {
    pub fn tokens(&self) -> usize {
        (self.region_height * self.region_width) as usize
    }

    /// Units in a row have the tokens of one region and head.
    pub fn place(&self, unit: usize, num_heads: usize, regions: usize) -> Place {
        let tokens = self.tokens();
        let token = unit % tokens;
        let region = unit / (tokens * num_heads) % regions;
        let (y, x) = self.token(region, token);
        Place {
            image: unit / (tokens * num_heads * regions),
            region,
            head: unit / tokens % num_heads,
            y,
            x,
        }
    }

    /// Row and column of a token of a region.
    pub fn token(&self, region: usize, token: usize) -> (usize, usize) {
        let cells = self.region(region, false);
        let width = self.region_width as usize;
        (cells.top + token / width, cells.left + token % width)
    }

    /// The tokens of a region, without padding if that is masked.
    pub fn region(&self, region: usize, #[comptime] mask_padding: bool) -> Region {
        let top = region / self.cols as usize * self.region_height as usize;
        let left = region % self.cols as usize * self.region_width as usize;
        let mut bottom = top + self.region_height as usize;
        let mut right = left + self.region_width as usize;
        if comptime!(mask_padding) {
            let (height, width) = (self.height as usize, self.width as usize);
            bottom = select(bottom < height, bottom, height);
            right = select(right < width, right, width);
        }
        Region { top, left, bottom, right }
    }

    /// Whether a token is padding.
    pub fn is_padding(&self, y: usize, x: usize) -> bool {
        y >= self.height as usize || x >= self.width as usize
    }
}

#[cube]
impl Region {
    pub fn is_empty(&self) -> bool {
        self.top >= self.bottom || self.left >= self.right
    }

    /// Tokens, or 1 if there are none.
    pub fn count(&self) -> f32 {
        let mut count = 1.0f32;
        if !self.is_empty() {
            count = f32::cast_from((self.bottom - self.top) * (self.right - self.left));
        }
        count
    }
}
