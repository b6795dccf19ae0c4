/**
 * Decides which of the binary's kernel tables this process may use: those that compute, on this machine, what the scalar ones do. A processor
 * that reports an instruction set it cannot run, a system that does not save its registers, a miscompiled kernel: then that table is not used,
 * and the next plainer one is.
 *
 * Tables are tested in a child process, once for each binary and processor. Where there can be no child (the permission model, a program that
 * has Node.js inside), they are tested in this one, and those whose use the system itself must allow are left out.
 */
import type { NativeBinding } from './binding.js';
import { cacheFolder } from './cache-folder.js';
import {
  type KernelVerdict,
  type KernelVerdicts,
  readVerdicts,
  verdictsFile,
  writeVerdicts,
} from './kernel-verdicts.js';
import { type ChildRun, type ProofChild, runChild, runChildSync } from './proof-child.js';

/** Environment variable that names the fastest table to use. */
export const ISA_VARIABLE = 'CTKVR_ISA';

/** Needs no proof: all others are compared with it. */
const BASELINE = 'scalar';
/** Tables not tested without a child: their instructions end a process that the system did not prepare for them. */
const childOnly: readonly string[] = ['amx'];

export interface TrustOptions extends ProofChild {
  readonly binding: Pick<NativeBinding, 'kernelTables' | 'testKernels'>;
  /** Default: `cacheFolder()`. */
  readonly cacheDir?: string | undefined;
  /** Tests again what is remembered. */
  readonly again?: boolean | undefined;
  /** Default: the value of CTKVR_ISA. */
  readonly forced?: string | undefined;
}

/** One kernel table, and what is known of it here. */
export interface KernelReport {
  readonly name: string;
  /**
   * 'baseline' needs no proof; 'proven'; 'failed' its self-test; 'untested', as faster than what CTKVR_ISA names or for lack of a child; 'missing':
   * this machine does not have the instructions.
   */
  readonly state: 'baseline' | 'proven' | 'failed' | 'untested' | 'missing';
  /** Why it cannot be used; null when it can. */
  readonly why: string | null;
}

export interface KernelTrust {
  /** The plainest first. */
  readonly tables: readonly KernelReport[];
  /** Names of those that may be used. */
  readonly allowed: readonly string[];
  /** One line, when something that this machine has is left out. */
  readonly warning: string | null;
}

/** Decides and blocks this thread meanwhile: milliseconds when it is remembered, else as long as Node.js takes to start. */
export function trustKernelsSync(options: TrustOptions): KernelTrust {
  const steps = decide(options);
  let step = steps.next();
  while (!step.done) {
    const tables = step.value;
    step = steps.next(attempt(() => runChildSync(options, tables)));
  }
  return step.value;
}

/** Decides; the child runs beside this thread. */
export async function trustKernels(options: TrustOptions): Promise<KernelTrust> {
  const steps = decide(options);
  let step = steps.next();
  while (!step.done) {
    const tables = step.value;
    step = steps.next(await runChild(options, tables).catch(noChild));
  }
  return step.value;
}

/** Why there was no child, or none that got as far as a test. */
class NoChild {
  constructor(readonly why: string) {}
}

function noChild(error: unknown): NoChild {
  return new NoChild((error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '');
}

function attempt(run: () => ChildRun): ChildRun | NoChild {
  try {
    return run();
  } catch (error) {
    return noChild(error);
  }
}

/** Yields names of tables to test in a child and takes what became of it, until everything is decided. */
function* decide(options: TrustOptions): Generator<readonly string[], KernelTrust, ChildRun | NoChild> {
  const { binding, binaryPath, cacheDir = cacheFolder(), again = false } = options;
  const forced = options.forced ?? process.env[ISA_VARIABLE] ?? '';
  const known = binding.kernelTables();
  const present = known.filter(({ missing }) => missing.length === 0).map(({ name }) => name);
  const last = present.includes(forced) ? present.indexOf(forced) : present.length - 1;
  const wanted = present.slice(0, last + 1).filter((name) => name !== BASELINE);

  let verdicts: KernelVerdicts = {};
  let reason = '';
  if (wanted.length > 0) {
    const file = verdictsFile(binaryPath, cacheDir);
    const remembered = readVerdicts(file);
    verdicts = again ? {} : remembered;
    const left = wanted.filter((name) => verdicts[name] === undefined);
    if (left.length > 0) {
      const found = yield* test(left, binding);
      verdicts = { ...verdicts, ...found.verdicts };
      reason = found.noChild;
      writeVerdicts(file, { ...remembered, ...verdicts });
    }
  }
  const tables = known.map(({ name, missing }): KernelReport => {
    if (name === BASELINE) return { name, state: 'baseline', why: null };
    if (missing.length > 0) return { name, state: 'missing', why: `this machine lacks ${missing.join(', ')}` };
    if (!wanted.includes(name)) return { name, state: 'untested', why: `${ISA_VARIABLE}=${forced} excludes it` };
    const verdict = verdicts[name];
    if (verdict === undefined) {
      return { name, state: 'untested', why: `it is tested in a child process only, and there is none (${reason})` };
    }
    return { name, state: verdict.why === null ? 'proven' : 'failed', why: verdict.why };
  });
  const allowed = tables.filter(({ state }) => state === 'baseline' || state === 'proven').map(({ name }) => name);
  return { tables, allowed, warning: warningOf(tables, wanted, allowed) };
}

/** Verdicts on all of `names`, but those that are not tested for lack of a child; `noChild`: why there was none. */
function* test(
  names: readonly string[],
  binding: TrustOptions['binding'],
): Generator<readonly string[], { verdicts: KernelVerdicts; noChild: string }, ChildRun | NoChild> {
  const verdicts: Record<string, KernelVerdict> = {};
  const at = Date.now();
  for (;;) {
    const left = names.filter((name) => verdicts[name] === undefined);
    if (left.length === 0) return { verdicts, noChild: '' };
    const run = yield left;
    const found = run instanceof NoChild ? [] : verdictsOf(run, left);
    if (found.length === 0) {
      const why = run instanceof NoChild ? run.why : `it ${run.ended} before the first test`;
      for (const name of left.filter((name) => !childOnly.includes(name))) {
        verdicts[name] = { why: testHere(binding, name), at };
      }
      return { verdicts, noChild: why };
    }
    for (const [name, why] of found) verdicts[name] = { why, at };
  }
}

/** What a child said: null, or what was wrong, of every test that it began. */
function verdictsOf({ stdout, ended }: ChildRun, asked: readonly string[]): [name: string, why: string | null][] {
  const verdicts = new Map<string, string | null>();
  for (const line of stdout.split('\n')) {
    const said = parse(line);
    if (said?.begin !== undefined) verdicts.set(said.begin, `its self-test ${ended}`);
    if (said?.end !== undefined) verdicts.set(said.end, said.why == null ? null : `it computes wrongly: ${said.why}`);
  }
  return [...verdicts].filter(([name]) => asked.includes(name));
}

function parse(line: string): { begin?: string; end?: string; why?: string | null } | null {
  try {
    return JSON.parse(line);
  } catch {
    return null; // a line that was cut, or the empty one at the end
  }
}

function testHere(binding: TrustOptions['binding'], name: string): string | null {
  try {
    const wrong = binding.testKernels(name);
    return wrong === null ? null : `it computes wrongly: ${wrong}`;
  } catch (error) {
    return `its self-test failed: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function warningOf(
  tables: readonly KernelReport[],
  wanted: readonly string[],
  allowed: readonly string[],
): string | null {
  const leftOut = tables.filter(({ name, why }) => wanted.includes(name) && why !== null);
  const used = allowed.at(-1) ?? BASELINE;
  if (leftOut.length === 0) return null;
  const each = leftOut.map(({ name, why }) => `${name} (${why?.replaceAll('\n', ' ')})`).join(', ');
  return (
    `CTkvr does without some of this processor's instructions: ${each}. It uses ${used}; answers are as good, only slower. ` +
    `\`ctkvr doctor\` tests again, ${ISA_VARIABLE}=${used} stops this message`
  );
}
