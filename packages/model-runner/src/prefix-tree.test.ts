import { createRandom, propertyParameters, type Random } from '@ctkvr/testkit';
import { expect, it } from 'vitest';
import { commonPrefixLength } from './document-turn.js';
import { PrefixTree } from './prefix-tree.js';

/** Rows of few different tokens, so that many have a beginning in common. */
function row(random: Random): Int32Array {
  return Int32Array.from({ length: random.integer(1, 9) }, () => random.integer(1, 3));
}

it('finds what a scan of all rows finds, whatever was set and deleted before', () => {
  const { seed, numRuns } = propertyParameters(120);
  for (let run = 0; run < numRuns; run++) {
    try {
      compareWithScan(createRandom(seed + run));
    } catch (error) {
      throw new Error(`CTKVR_TEST_SEED=${seed + run}`, { cause: error });
    }
  }
});

function compareWithScan(random: Random): void {
  const tree = new PrefixTree<string>();
  const rows = new Map<string, Int32Array>();
  for (let step = 0; step < 60; step++) {
    const ids = row(random);
    if (random.integer(0, 2) > 0) {
      tree.set(ids, String(ids));
      rows.set(String(ids), ids);
    } else expect(tree.delete(ids)).toBe(rows.delete(String(ids)));
    const asked = row(random);
    const found = tree.longest(asked);
    const longest = Math.max(0, ...[...rows.values()].map((one) => commonPrefixLength(one, asked)));
    const best = [...rows.values()].filter((one) => commonPrefixLength(one, asked) === longest);
    if (longest === 0) expect(found).toBeNull();
    else {
      expect(found?.length).toBe(longest);
      const shortest = Math.min(...best.map(({ length }) => length));
      expect(best.filter(({ length }) => length === shortest).map(String)).toContain(found?.value);
    }
    const beginnings = [...rows.values()].filter((one) => commonPrefixLength(one, asked) === one.length).map(String);
    expect(tree.beginningsOf(asked).sort()).toEqual(beginnings.sort());
    expect(tree.isEmpty).toBe(rows.size === 0);
  }
}
