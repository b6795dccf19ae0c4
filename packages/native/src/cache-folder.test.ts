import { expect, it } from 'vitest';
import { cacheFolder } from './cache-folder.js';

it.each([
  [{ CTKVR_CACHE_DIR: '/own', XDG_CACHE_HOME: '/xdg' }, '/own'],
  [{ XDG_CACHE_HOME: '/xdg' }, '/xdg/ctkvr'],
])('%o', (env, expected) => {
  expect(cacheFolder(env)).toBe(expected);
});

it('falls back to the home folder, also for a relative XDG_CACHE_HOME', () => {
  expect(cacheFolder({ XDG_CACHE_HOME: 'relative' })).toBe(cacheFolder({}));
  expect(cacheFolder({})).toMatch(/\.cache.ctkvr$/);
});
