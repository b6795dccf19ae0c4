import { describe, expect, it } from 'vitest';
import { HeldQueries } from './held-queries.js';

describe('HeldQueries', () => {
  it('holds at most its capacity', () => {
    const held = new HeldQueries(100);
    held.grownTo(60);
    expect(held.count).toBe(60);
    held.grownTo(1000);
    expect(held.count).toBe(100);
  });

  it('loses what is cut off, and gets nothing earlier back', () => {
    const held = new HeldQueries(100);
    held.grownTo(1000);
    held.truncatedTo(930);
    expect(held.count).toBe(30);
    held.truncatedTo(500);
    expect(held.count).toBe(0);
    held.grownTo(540);
    expect(held.count).toBe(40);
  });

  it('loses earlier queries to steps that were undone', () => {
    const held = new HeldQueries(100);
    held.grownTo(1000);
    held.grownTo(1080);
    held.truncatedTo(1000);
    expect(held.count).toBe(20);
  });

  it('follows the capacity: fewer at once, more only from now on', () => {
    const held = new HeldQueries(100);
    held.grownTo(1000);
    held.resizedTo(40);
    expect(held.count).toBe(40);
    held.resizedTo(200);
    expect(held.count).toBe(40);
    held.grownTo(1100);
    expect(held.count).toBe(140);
  });
});
