import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { addFiles } from '../state/documents.js';

/** Takes files that are dropped anywhere on the page. */
export function DropTarget() {
  const isOver = useSignal(false);
  useEffect(() => {
    const over = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes('Files')) return;
      event.preventDefault(); // else the browser opens the file in place of the page
      isOver.value = true;
    };
    const leave = (event: DragEvent) => {
      if (event.relatedTarget === null) isOver.value = false; // out of the window
    };
    const drop = (event: DragEvent) => {
      isOver.value = false;
      const files = [...(event.dataTransfer?.files ?? [])];
      if (files.length === 0) return;
      event.preventDefault();
      addFiles(files);
    };
    addEventListener('dragover', over);
    addEventListener('dragleave', leave);
    addEventListener('drop', drop);
    return () => {
      removeEventListener('dragover', over);
      removeEventListener('dragleave', leave);
      removeEventListener('drop', drop);
    };
  }, [isOver]);
  return isOver.value ? <div class="drop-cover">Drop the document to have it read</div> : null;
}
