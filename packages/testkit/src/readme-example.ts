/** Runs a ```ts block of a README, so that what a reader copies is known to work. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/**
 * Runs the code of a `ts` block of the README at `readme`, as a module beside it, and returns its exports: an example that
 * ends in `export const x` can be checked. Imports resolve as they would for the package's own code.
 * @param readme for example `new URL('../README.md', import.meta.url)`.
 * @param block which `ts` block, from 0, the first.
 */
export async function runReadmeExample(readme: URL, block = 0): Promise<Record<string, unknown>> {
  const text = await readFile(readme, 'utf8');
  const code = [...text.matchAll(/```ts\n([\s\S]*?)```/g)][block]?.[1];
  if (code === undefined) throw new Error(`${fileURLToPath(readme)} has no ts block ${block}`);
  const folder = await mkdtemp(fileURLToPath(new URL('./.readme-', readme)));
  try {
    await writeFile(`${folder}/example.ts`, code);
    return (await import(/* @vite-ignore */ `${folder}/example.ts`)) as Record<string, unknown>;
  } finally {
    await rm(folder, { recursive: true });
  }
}
