import { join } from 'node:path';
import { expect, test } from 'vitest';
import { filesBelow } from './digest.mjs';
import { root } from './paths.mjs';

test('what a file is chosen by does not depend on where the checkout lies', () => {
  /** @type {string[]} */
  const asked = [];
  const files = filesBelow(join(root, 'scripts'), (path) => {
    asked.push(path);
    return path === '/scripts/lib/digest.mjs';
  });
  expect(files).toEqual([join(root, 'scripts/lib/digest.mjs')]);
  expect(asked.every((path) => path.startsWith('/scripts/'))).toBe(true);
});
