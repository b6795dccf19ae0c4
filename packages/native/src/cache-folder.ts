/** Where downloaded models and texts, and what was found out about this machine, are kept. One rule for every program of this project. */
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/**
 * Returns the absolute cache folder (which may not exist yet): `CTKVR_CACHE_DIR`, else `ctkvr` in the XDG cache folder, else `~/.cache/ctkvr`.
 * A relative `XDG_CACHE_HOME` is ignored, as the XDG base directory specification asks.
 */
export function cacheFolder(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const own = env.CTKVR_CACHE_DIR;
  if (own) return isAbsolute(own) ? own : join(process.cwd(), own);
  const xdg = env.XDG_CACHE_HOME;
  return xdg && isAbsolute(xdg) ? join(xdg, 'ctkvr') : join(homedir(), '.cache', 'ctkvr');
}
