;; Has two memories, which is a feature that is off for modules.
(module (memory (export "memory") 1) (memory 1) (func (export "_start")))
