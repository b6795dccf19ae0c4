/** What a self-test's outcome depends on beside the binary: processor, its microcode, and the system's kernel. */
import { closeSync, openSync, readSync } from 'node:fs';
import { cpus, release } from 'node:os';

/** Lines of /proc/cpuinfo that are the same for the life of a machine; others are clocks and core numbers. */
const lasting =
  /^(vendor_id|cpu family|model|model name|stepping|microcode|flags|Features|CPU (implementer|architecture|variant|part|revision))\s*:/;

/** Returns a text that is another one on another processor, microcode or kernel. */
export function processorIdentity(): string {
  return [process.platform, process.arch, release(), ...(firstProcessor() ?? [cpus()[0]?.model ?? ''])].join('\n');
}

/** Of the first processor alone: the file has thousands of lines on a large machine. Null where there is none. */
function firstProcessor(): string[] | null {
  const text = Buffer.alloc(16_384);
  try {
    const file = openSync('/proc/cpuinfo', 'r');
    try {
      const length = readSync(file, text);
      const [first = ''] = text.toString('utf8', 0, length).split('\n\n');
      return first.split('\n').filter((line) => lasting.test(line));
    } finally {
      closeSync(file);
    }
  } catch {
    return null; // not Linux, or not readable
  }
}
