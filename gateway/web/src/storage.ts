// The browser's storage, where it lets us have it: in a frame of another site it may not.
//
// SPDX-License-Identifier: MIT

class Kept {
  constructor(private readonly open: () => Storage) {}

  getItem(key: string): string | null {
    try {
      return this.open().getItem(key);
    } catch {
      return null;
    }
  }

  setItem(key: string, value: string) {
    try {
      this.open().setItem(key, value);
    } catch {
      // Full, or not allowed: what is kept is a comfort only.
    }
  }

  removeItem(key: string) {
    try {
      this.open().removeItem(key);
    } catch {
      // Nothing is kept.
    }
  }
}

export const local = new Kept(() => localStorage);
export const perTab = new Kept(() => sessionStorage);
