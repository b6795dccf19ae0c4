/** Prints our own warnings as one line of a command's; others stay as Node.js prints them, with its number and its hint at a stack. */
export function printPlainWarnings(stderr: NodeJS.WritableStream): void {
  const others = process.listeners('warning');
  process.removeAllListeners('warning');
  process.on('warning', (warning) => {
    if (warning.name === 'CtkvrWarning') stderr.write(`ctkvr: ${warning.message}\n`);
    else for (const print of others) print(warning);
  });
}
