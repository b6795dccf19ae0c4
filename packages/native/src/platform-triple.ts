/**
 * Names the platform of this process the way prebuilt binaries are named: `linux-x64-gnu`, `darwin-arm64`, ... The names are those of
 * the folders under npm/ and the suffixes of the packages `@ctkvr/native-<triple>`.
 */

/** Platforms that have a package of their own. Others can build from source and set CTKVR_NATIVE_PATH. */
export const platformTriples = ['linux-x64-gnu', 'linux-arm64-gnu', 'darwin-x64', 'darwin-arm64'] as const;
export type PlatformTriple = (typeof platformTriples)[number];

/** Returns this process's triple, supported or not: compare with {@link platformTriples}. */
export function platformTriple(): string {
  const base = `${process.platform}-${process.arch}`;
  return process.platform === 'linux' ? `${base}-${libc()}` : base;
}

function libc(): 'gnu' | 'musl' {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return report?.header?.glibcVersionRuntime === undefined ? 'musl' : 'gnu';
}
