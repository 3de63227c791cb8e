from r21d_core.cli import main

raise SystemExit(main())
